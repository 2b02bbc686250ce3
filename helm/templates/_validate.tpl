{{/* The seconds of a duration such as 1h30m; a year has 365.25 days, as the binaries count. */}}
{{- define "caios.seconds" -}}
{{- $units := dict "s" 1 "sec" 1 "second" 1 "seconds" 1 "m" 60 "min" 60 "minute" 60 "minutes" 60 "h" 3600 "hr" 3600 "hour" 3600 "hours" 3600 "d" 86400 "day" 86400 "days" 86400 "w" 604800 "week" 604800 "weeks" 604800 "y" 31557600 "year" 31557600 "years" 31557600 -}}
{{- $seconds := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" (toString .) -1 -}}
{{- $seconds = add $seconds (mul (regexFind "[1-9][0-9]*" . | default "0" | int64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{/* What a schema cannot say in words that help. The schema has types and names alone, so that these
sentences are what people see. */}}
{{- define "caios.validate" -}}
{{- $problems := list -}}
{{- $c := .Values.config -}}
{{- $i := .Values.injector -}}

{{- if kindIs "float64" $c.orgID | or (kindIs "int64" $c.orgID) -}}
{{- $problems = append $problems "config.orgID is a number, and YAML may round it: put it in quotes, or use --set-string config.orgID=…" -}}
{{- else if not $c.orgID -}}
{{- $problems = append $problems "config.orgID is missing: the ID of your CoreWeave organisation, for example --set config.orgID=my-org" -}}
{{- else if not (regexMatch "^[A-Za-z0-9_-]+$" $c.orgID) -}}
{{- $problems = append $problems (printf "config.orgID is `%s`: an organisation's ID has letters, digits, `-` and `_`" $c.orgID) -}}
{{- end -}}

{{- if not $c.region -}}
{{- $problems = append $problems "config.region is missing: the availability zone of your buckets, for example --set config.region=US-EAST-04A" -}}
{{- else if not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$" $c.region) -}}
{{- $problems = append $problems (printf "config.region is `%s`: an availability zone has letters, digits and `-`, such as US-EAST-04A" $c.region) -}}
{{- end -}}

{{- $bounds := dict "config.credentialDuration" (list $c.credentialDuration "15m" "12h") "injector.tokenExpiration" (list $i.tokenExpiration "10m" "24h") "injector.certificate.lifetime" (list $i.certificate.lifetime "10s" "366d") "injector.certificate.caLifetime" (list $i.certificate.caLifetime "20s" "7305d") -}}
{{- $seconds := dict -}}
{{- range $path, $bound := $bounds -}}
{{- $value := first $bound -}}
{{- if not (regexMatch "^([0-9]+(s|sec|m|min|h|hr|d|day|w|y|years?|days?|hours?|minutes?|seconds?|weeks?) ?)+$" (toString $value)) -}}
{{- $problems = append $problems (printf "%s is `%v`: must be a duration with its unit, such as 15m, 6h or 90d" $path $value) -}}
{{- else -}}
{{- $given := include "caios.seconds" $value | int64 -}}
{{- $_ := set $seconds $path $given -}}
{{- if or (lt $given (include "caios.seconds" (index $bound 1) | int64)) (gt $given (include "caios.seconds" (index $bound 2) | int64)) -}}
{{- $problems = append $problems (printf "%s is `%v`: must be %s to %s" $path $value (index $bound 1) (index $bound 2)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $lifetimes := list (get $seconds "injector.certificate.lifetime") (get $seconds "injector.certificate.caLifetime") -}}
{{- if and (has "" $lifetimes | not) (lt (index $lifetimes 1 | int64) (mul 2 (index $lifetimes 0 | int64))) -}}
{{- $problems = append $problems "injector.certificate.caLifetime must be at least twice injector.certificate.lifetime, or every certificate needs a new authority" -}}
{{- end -}}
{{- with get $seconds "config.credentialDuration" -}}
{{- if and $.Values.prometheusRule.enabled (gt (mul 10 (int64 $.Values.alerts.expirySeconds)) (mul 4 .)) -}}
{{- $problems = append $problems (printf "alerts.expirySeconds is %d: with config.credentialDuration `%v` every key comes to that before its renewal, so the alert would fire for ever; at most %d" (int $.Values.alerts.expirySeconds) $c.credentialDuration (div (mul 4 .) 10)) -}}
{{- end -}}
{{- end -}}
{{- with get $seconds "injector.certificate.lifetime" -}}
{{- if and $.Values.prometheusRule.enabled (eq $i.certificate.mode "managed") (gt (mul 3 (int64 $.Values.alerts.certificateSeconds)) .) -}}
{{- $problems = append $problems (printf "alerts.certificateSeconds is %d: with injector.certificate.lifetime `%v` every certificate comes to that before its renewal, so the alert would fire again and again; at most %d" (int $.Values.alerts.certificateSeconds) $i.certificate.lifetime (div . 3)) -}}
{{- end -}}
{{- end -}}
{{- range $path, $value := dict "agent.drainTimeout" .Values.agent.drainTimeout "agent.handoverTimeout" .Values.agent.handoverTimeout "injector.shutdownDelay" $i.shutdownDelay "injector.drainTimeout" $i.drainTimeout -}}
{{- if not (regexMatch "^[0-9]{1,3}s$" (toString $value)) -}}
{{- $problems = append $problems (printf "%s is `%v`: must be seconds, such as 10s, because the Pod's grace period is counted from it" $path $value) -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := $c.attributes -}}
{{- if kindIs "float64" $value | or (kindIs "int64" $value) -}}
{{- $problems = append $problems (printf "config.attributes.%s is a number, and YAML may write it in another way: put it in quotes" $key) -}}
{{- end -}}
{{- end -}}

{{- if not (regexMatch "^[1-9][0-9]*%?$" (toString .Values.agent.maxSurge)) -}}
{{- $problems = append $problems (printf "agent.maxSurge is `%v`: must be a number of nodes or a share of them, such as 1 or 10%%" .Values.agent.maxSurge) -}}
{{- end -}}

{{- range $path, $value := dict "config.port" $c.port "agent.adminPort" .Values.agent.adminPort "injector.port" $i.port "injector.adminPort" $i.adminPort -}}
{{- if or (lt (int $value) 1024) (gt (int $value) 65535) (ne (toString $value) (toString (int $value))) -}}
{{- $problems = append $problems (printf "%s is `%v`: must be a port from 1024 to 65535; lower ones need a capability" $path $value) -}}
{{- end -}}
{{- end -}}
{{- if eq (int $i.port) (int $i.adminPort) -}}
{{- $problems = append $problems (printf "injector.port and injector.adminPort are both %d: must differ" (int $i.port)) -}}
{{- end -}}

{{- range $path, $value := dict "injector.enroll.cpu" $i.enroll.cpu "injector.enroll.memory" $i.enroll.memory -}}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$" (toString $value)) -}}
{{- $problems = append $problems (printf "%s is `%v`: must be a Kubernetes quantity, such as 100m or 32Mi" $path $value) -}}
{{- end -}}
{{- end -}}

{{- with .Values.image.digest -}}
{{- if not (regexMatch "^sha256:[0-9a-f]{64}$" .) -}}
{{- $problems = append $problems (printf "image.digest is `%s`: must be sha256: and 64 hexadecimal digits, as your registry shows it" .) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^[a-z0-9][a-z0-9._-]*((:[0-9]+)?(/[a-z0-9._-]+)+)?$" (toString .Values.image.repository)) -}}
{{- $problems = append $problems (printf "image.repository is `%s`: must be a name without tag or digest, in lower case" .Values.image.repository) -}}
{{- end -}}

{{- range $path, $value := dict "config.apiURL" $c.apiURL "config.s3Endpoint" $c.s3Endpoint "config.jwksURL" $c.jwksURL "config.issuer" $c.issuer "proxy.http" .Values.proxy.http "proxy.https" .Values.proxy.https "helmTest.endpoint" .Values.helmTest.endpoint -}}
{{- if and $value (not (regexMatch "^https?://[^/ ]+" $value)) -}}
{{- $problems = append $problems (printf "%s is `%s`: must be a URL that begins with https:// or http://" $path $value) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^/[^ ]*[^/ ]$" $c.nodeDirectory) -}}
{{- $problems = append $problems (printf "config.nodeDirectory is `%s`: must be an absolute path without a slash at its end" $c.nodeDirectory) -}}
{{- end -}}

{{- if not (regexMatch "^/[^ ]*[^/ ]$" .Values.csi.kubeletDirectory) -}}
{{- $problems = append $problems (printf "csi.kubeletDirectory is `%s`: must be an absolute path without a slash at its end, as the kubelet's --root-dir says" .Values.csi.kubeletDirectory) -}}
{{- end -}}
{{- if and (eq .Values.csi.volume "csi") (not .Values.csi.enabled) -}}
{{- $problems = append $problems "csi.volume is `csi`, but csi.enabled is false: enable the driver, or let the volume be `auto`" -}}
{{- end -}}

{{- if not (regexMatch "^/[^ ]*[^/ ]$" .Values.reattach.networkNamespaces) -}}
{{- $problems = append $problems (printf "reattach.networkNamespaces is `%s`: must be an absolute path without a slash at its end, such as /run/netns" .Values.reattach.networkNamespaces) -}}
{{- end -}}
{{- if and .Values.reattach.enabled (not .Values.agent.watchPods) -}}
{{- $problems = append $problems "reattach.enabled needs agent.watchPods: the agent learns from the API server which Pods should have a listener" -}}
{{- end -}}

{{- if and $c.additionalAudiences (not $c.audience) (not $c.issuer) -}}
{{- $problems = append $problems "config.additionalAudiences needs config.audience or config.issuer: the list replaces the default audience, so name that too (`kubectl get --raw /.well-known/openid-configuration` shows the issuer)" -}}
{{- end -}}
{{- if and (ne $c.keysFrom "api-server") (not $c.issuer) -}}
{{- $problems = append $problems (printf "config.issuer is missing: with config.keysFrom `%s` nothing else names it" $c.keysFrom) -}}
{{- end -}}
{{- if and (eq $c.keysFrom "url") (not $c.jwksURL) -}}
{{- $problems = append $problems "config.jwksURL is missing: config.keysFrom `url` needs it" -}}
{{- end -}}
{{- if and (ne $c.keysFrom "url") $c.jwksURL -}}
{{- $problems = append $problems (printf "config.jwksURL is given, but config.keysFrom is `%s`: set it to `url`, or leave the URL out" $c.keysFrom) -}}
{{- end -}}
{{- if and .Values.caBundle.configMap .Values.caBundle.secret -}}
{{- $problems = append $problems "caBundle.configMap and caBundle.secret are both given: choose one" -}}
{{- end -}}

{{- if eq $i.certificate.mode "secret" -}}
{{- if not $i.certificate.secret.name -}}
{{- $problems = append $problems "injector.certificate.secret.name is missing: mode `secret` needs a Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- if not (contains "-----BEGIN CERTIFICATE-----" $i.certificate.secret.caBundle) -}}
{{- $problems = append $problems "injector.certificate.secret.caBundle is no PEM: the API server must know the authority of your certificate, for example --set-file injector.certificate.secret.caBundle=ca.crt" -}}
{{- end -}}
{{- end -}}
{{- range $path, $value := dict "injector.certificate.certManager.duration" $i.certificate.certManager.duration "injector.certificate.certManager.renewBefore" $i.certificate.certManager.renewBefore -}}
{{- if not (regexMatch "^([0-9]+(h|m|s))+$" (toString $value)) -}}
{{- $problems = append $problems (printf "%s is `%v`: cert-manager knows h, m and s alone, such as 2160h" $path $value) -}}
{{- end -}}
{{- end -}}
{{- if not (and $i.relayRuntimeClasses $i.unsupportedRuntimeClasses) -}}
{{- $problems = append $problems "injector.relayRuntimeClasses and injector.unsupportedRuntimeClasses must not be empty, or the injector's defaults return: put a name there that you do not use" -}}
{{- end -}}
{{- with .Values.helmTest -}}
{{- if .enabled -}}
{{- if not (and .namespace .serviceAccount) -}}
{{- $problems = append $problems "helmTest.namespace and helmTest.serviceAccount are needed for the test: an annotated ServiceAccount that CoreWeave's policy grants what a workload needs" -}}
{{- end -}}
{{- if has .namespace (concat (list $.Release.Namespace "kube-system") $i.excludedNamespaces) -}}
{{- $problems = append $problems (printf "helmTest.namespace is `%s`, which the injector leaves alone: name the namespace of a workload" .namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq .Release.Namespace "kube-system" -}}
{{- $problems = append $problems "the namespace is kube-system: install into one of its own, such as --namespace pod-identity-webhook" -}}
{{- end -}}
{{- if gt (len .Values.fullnameOverride) 40 -}}
{{- $problems = append $problems (printf "fullnameOverride is `%s`: must have at most 40 characters" .Values.fullnameOverride) -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\nthe values make no sense:\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}
