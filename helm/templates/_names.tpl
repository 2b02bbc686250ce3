{{/* What the names of objects begin with; the longest suffix has 23 characters. */}}
{{- define "caios.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains "caios" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-caios" (.Release.Name | trunc 34 | trimSuffix "-") }}
{{- end }}
{{- end }}

{{- define "caios.agent" -}}{{ include "caios.fullname" . }}-agent{{- end }}
{{- define "caios.injector" -}}{{ include "caios.fullname" . }}-injector{{- end }}

{{/* Not of the release: a second one in the same cluster would take the sockets of the first on every
node, so Helm must find this name taken. */}}
{{- define "caios.webhookConfiguration" -}}caios-injector{{- end }}

{{/* Not of the release either: Pods name it. */}}
{{- define "caios.csiDriver" -}}csi.caios.coreweave.com{{- end }}

{{/* The Secret that the injector fills. */}}
{{- define "caios.managedSecret" -}}{{ include "caios.injector" . }}-certificate{{- end }}
{{/* The Secret that cert-manager fills. */}}
{{- define "caios.certManagerSecret" -}}{{ include "caios.injector" . }}-tls{{- end }}

{{- define "caios.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "caios.selector" . }}
{{- end }}

{{- define "caios.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "caios.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}
