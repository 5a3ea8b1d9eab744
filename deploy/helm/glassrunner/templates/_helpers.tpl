{{- define "glassrunner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "glassrunner.fullname" -}}
{{- $name := include "glassrunner.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "glassrunner.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{- define "glassrunner.jobNamespace" -}}
{{- default (include "glassrunner.namespace" .) .Values.runners.jobNamespace -}}
{{- end -}}

{{- define "glassrunner.secret" -}}
{{- default (include "glassrunner.fullname" .) .Values.runners.secret -}}
{{- end -}}

{{- define "glassrunner.image" -}}
{{- if .Values.image.registry }}{{ .Values.image.registry }}/{{ end }}{{ .Values.image.image }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* What a Service and a monitor find the pods by: it never changes. */}}
{{- define "glassrunner.selector" -}}
app: {{ include "glassrunner.fullname" . | quote }}
release: {{ .Release.Name | quote }}
{{- end -}}

{{- define "glassrunner.labels" -}}
{{ include "glassrunner.selector" . }}
chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
heritage: {{ .Release.Service | quote }}
app.kubernetes.io/name: {{ include "glassrunner.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: glassrunner
{{- end -}}

{{- define "glassrunner.accountCreated" -}}
{{- if kindIs "bool" .Values.serviceAccount.create }}{{ if .Values.serviceAccount.create }}yes{{ end }}{{ else if .Values.rbac.create }}yes{{ end }}
{{- end -}}

{{- define "glassrunner.account" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if include "glassrunner.accountCreated" . }}{{ include "glassrunner.fullname" . }}{{ else }}default{{ end -}}
{{- end -}}

{{/* A string of TOML: its escapes are those of JSON. */}}
{{- define "glassrunner.toml" -}}
{{- toString . | toJson -}}
{{- end -}}

{{/* The endpoint of a ServiceMonitor or PodMonitor. */}}
{{- define "glassrunner.endpoint" -}}
{{- $m := .monitor -}}
port: {{ .root.Values.metrics.portName | quote }}
{{- $scheme := default .root.Values.metrics.scheme $m.scheme }}
{{- if ne $scheme "http" }}
scheme: {{ $scheme | quote }}
{{- end }}
{{- range $key := list "interval" "scrapeTimeout" "path" "proxyUrl" }}
{{- with index $m $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $key := list "params" "tlsConfig" "basicAuth" "authorization" "oauth2" "bearerTokenSecret" "relabelings" }}
{{- with index $m $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "honorLabels" "honorTimestamps" "trackTimestampsStaleness" "followRedirects" "enableHttp2" "filterRunning" }}
{{- if kindIs "bool" (index $m $key) }}
{{ $key }}: {{ index $m $key }}
{{- end }}
{{- end }}
{{- with $m.metricRelabelings }}
metricRelabelings: {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What a ServiceMonitor and a PodMonitor have in common beside the endpoint. */}}
{{- define "glassrunner.monitor" -}}
{{- $m := .monitor -}}
namespaceSelector:
  matchNames: [{{ include "glassrunner.namespace" .root | quote }}]
selector:
  matchLabels: {{- include "glassrunner.selector" .root | nindent 4 }}
{{- with $m.jobLabel }}
jobLabel: {{ . | quote }}
{{- end }}
{{- range $key := list "targetLabels" "podTargetLabels" "scrapeProtocols" }}
{{- with index $m $key }}
{{ $key }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "sampleLimit" "targetLimit" "labelLimit" "labelNameLengthLimit" "labelValueLengthLimit" }}
{{- with index $m $key }}
{{ $key }}: {{ int64 . }}
{{- end }}
{{- end }}
{{- if kindIs "bool" $m.scrapeClassicHistograms }}
scrapeClassicHistograms: {{ $m.scrapeClassicHistograms }}
{{- end }}
{{- end -}}

{{- define "glassrunner.probe" -}}
{{- $v := .root.Values -}}
{{- if hasKey .own "exec" | or (hasKey .own "httpGet") | or (hasKey .own "tcpSocket") -}}
{{- else if $v.metrics.enabled -}}
httpGet:
  path: {{ .path }}
  port: {{ $v.metrics.portName | quote }}
  scheme: {{ upper $v.metrics.scheme }}
{{- else -}}
exec:
  command: [bash, /configmaps/check-health, {{ .path | quote }}]
{{- end }}
periodSeconds: {{ default .period .own.periodSeconds }}
timeoutSeconds: {{ default $v.probeTimeoutSeconds .own.timeoutSeconds }}
failureThreshold: {{ default 3 .own.failureThreshold }}
{{- with omit .own "periodSeconds" "timeoutSeconds" "failureThreshold" }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "glassrunner.checks" -}}
{{- $v := .Values -}}
{{- if not $v.gitlabUrl }}{{ fail "gitlabUrl is missing: the address of GitLab, such as https://gitlab.example.com" }}{{ end -}}
{{- if not (or $v.runnerToken $v.runnerRegistrationToken $v.runners.secret) }}{{ fail "no token: set runners.secret to a Secret with the key runner-token, or runnerToken" }}{{ end -}}
{{- if and $v.runnerToken (not (regexMatch "^[A-Za-z0-9_.=-]+$" $v.runnerToken)) }}{{ fail "runnerToken has characters that no token has" }}{{ end -}}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.metrics.enabled) }}{{ fail "metrics.serviceMonitor.enabled needs metrics.enabled" }}{{ end -}}
{{- if and $v.metrics.podMonitor.enabled (not $v.metrics.enabled) }}{{ fail "metrics.podMonitor.enabled needs metrics.enabled" }}{{ end -}}
{{- if and $v.metrics.serviceMonitor.enabled (not $v.service.enabled) }}{{ fail "metrics.serviceMonitor.enabled needs service.enabled: a ServiceMonitor scrapes through the Service" }}{{ end -}}
{{- if $v.sessionServer.enabled }}{{ fail "sessionServer.enabled: glassrunner has no session server yet" }}{{ end -}}
{{- if and $v.rbac.namespacePerJob (not $v.rbac.clusterWideAccess) }}{{ fail "rbac.namespacePerJob needs rbac.clusterWideAccess: namespaces are no part of a namespace" }}{{ end -}}
{{- end -}}
