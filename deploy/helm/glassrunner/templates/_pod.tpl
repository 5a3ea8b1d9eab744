{{- define "glassrunner.environment" -}}
- {name: HOME, value: /home/gitlab-runner}
- {name: CONFIG_FILE, value: /home/gitlab-runner/.gitlab-runner/config.toml}
- {name: CI_SERVER_URL, value: {{ .Values.gitlabUrl | quote }}}
- {name: RUNNER_EXECUTOR, value: {{ .Values.runners.executor | quote }}}
{{- if .Values.runners.name }}
- {name: RUNNER_NAME, value: {{ .Values.runners.name | quote }}}
{{- else }}
- {name: RUNNER_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
{{- end }}
{{- if eq .Values.runners.executor "kubernetes" }}
- {name: KUBERNETES_NAMESPACE, value: {{ include "glassrunner.jobNamespace" . | quote }}}
{{- end }}
{{- if .Values.runners.config }}
- {name: TEMPLATE_CONFIG_FILE, value: /configmaps/config.template.toml}
{{- else if .Values.runners.configPath }}
- {name: TEMPLATE_CONFIG_FILE, value: {{ .Values.runners.configPath | quote }}}
{{- end }}
{{- if .Values.runners.cache.secretName }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /secrets/gcs-application-credentials-file}
{{- end }}
{{- range $name, $value := .Values.extraEnv }}
- {name: {{ $name | quote }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $source := .Values.extraEnvFrom }}
- name: {{ $name | quote }}
  valueFrom: {{- toYaml $source | nindent 4 }}
{{- end }}
{{- with .Values.envVars }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "glassrunner.mounts" -}}
- {name: home, mountPath: /home/gitlab-runner}
- {name: etc, mountPath: /home/gitlab-runner/.gitlab-runner}
- {name: tmp, mountPath: /tmp}
- {name: configmaps, mountPath: /configmaps, readOnly: true}
{{- if .Values.certsSecretName }}
- {name: certs, mountPath: /home/gitlab-runner/.gitlab-runner/certs, readOnly: true}
{{- end }}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
