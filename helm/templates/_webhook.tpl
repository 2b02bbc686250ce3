{{/* The namespaces that the webhooks leave alone, as JSON. */}}
{{- define "caios.excludedNamespaces" -}}
{{ concat (list "kube-system" .Release.Namespace) .Values.injector.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* What both entries share; dict root, path. `caBundle` is rendered for a given Secret alone: the
injector or cert-manager writes it otherwise, and Helm leaves alone what it does not render. */}}
{{- define "caios.webhook" -}}
{{- $v := .root.Values -}}
admissionReviewVersions: [v1]
clientConfig:
  service:
    name: {{ include "caios.injector" .root }}
    namespace: {{ .root.Release.Namespace }}
    path: {{ .path }}
    port: 443
  {{- if eq $v.injector.certificate.mode "secret" }}
  caBundle: {{ $v.injector.certificate.secret.caBundle | b64enc }}
  {{- end }}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
matchPolicy: Equivalent
# A webhook that comes later may add a container; it gets its variables too. A second run changes
# nothing else.
reinvocationPolicy: IfNeeded
sideEffects: None
# Above the injector's own deadline, so that it answers in words.
timeoutSeconds: 5
namespaceSelector:
  matchExpressions:
    # The cluster and the injector itself must be able to start without the injector.
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ include "caios.excludedNamespaces" .root }}
matchConditions:
  # Mirror Pods run already, from a file of their node; changing one would only make it differ.
  - name: not-a-mirror-pod
    expression: '!has(object.metadata.annotations) || !("kubernetes.io/config.mirror" in object.metadata.annotations)'
{{- end }}
