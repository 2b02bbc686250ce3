{{/* What every container of ours may do; which user it is, each says itself. */}}
{{- define "caios.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* An address to listen on; dict root, port. */}}
{{- define "caios.address" -}}
{{- $on := .root.Values.config.listenAddress -}}
{{- if contains ":" $on }}[{{ $on }}]{{ else }}{{ $on }}{{ end }}:{{ int .port }}
{{- end }}

{{- define "caios.publicDirectory" -}}{{ .Values.config.nodeDirectory }}/public{{- end }}

{{/* A token for the API server, of which the kubelet renews a copy for the one container that mounts
it: automounting would give it to all. */}}
{{- define "caios.apiAccess" -}}
- name: api-access
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end }}

{{- define "caios.apiAccessMount" -}}
- name: api-access
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{/* Probes of the admin port, which answer for the process alone: a restart cures nothing outside. */}}
{{- define "caios.probes" -}}
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: admin}
  initialDelaySeconds: 5
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
{{- end }}
