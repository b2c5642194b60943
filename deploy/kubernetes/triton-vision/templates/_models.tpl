{{/* Where models come from: an init container, a mount at /models and a volume; each may be nothing. */}}

{{- define "models.own" -}}{{/* they are in the server's own image */}}
{{- if and (eq .Values.models.source "image") (not .Values.models.image.reference) }}true{{ end }}
{{- end }}

{{/* (list $ "server"); the gateway asks no more of a store than configurations */}}
{{- define "models.container" -}}
{{- $models := (index . 0).Values.models -}}
{{- $filter := eq (index . 1) "gateway" | ternary "--include=*.pbtxt, --include=model.sig, " "" -}}
{{- if eq $models.source "objectStore" -}}
- name: models
  image: {{ $models.objectStore.image }}
  # Into an empty folder: what does not arrive whole fails here, and is tried again.
  args: [copy, {{ $filter }}--transfers=8, --retries=5, {{ printf "store:%s" $models.objectStore.path | quote }}, /models]
  env: [{ name: HOME, value: /tmp }] # rclone's configuration is in variables alone
  envFrom: [{ secretRef: { name: {{ $models.objectStore.secretName }} } }]
  securityContext: {{- include "container.security" . | nindent 4 }}
  resources: { requests: { cpu: 250m, memory: 256Mi }, limits: { memory: 1Gi } }
  volumeMounts:
    - { name: models, mountPath: /models }
    - { name: temporary, mountPath: /tmp }
{{- else if and (eq $models.source "image") $models.image.reference -}}
- name: models
  image: {{ $models.image.reference }}
  command: [cp, -R, /models/., /copied/]
  securityContext: {{- include "container.security" . | nindent 4 }}
  resources: { requests: { cpu: 250m, memory: 64Mi }, limits: { memory: 256Mi } }
  volumeMounts: [{ name: models, mountPath: /copied }]
{{- end }}
{{- end }}

{{- define "models.mount" -}}
{{- if not (include "models.own" .) -}}
- { name: models, mountPath: /models, readOnly: true{{ if eq .Values.models.source "pvc" }}{{ with .Values.models.pvc.subPath }}, subPath: {{ . | quote }}{{ end }}{{ end }} }
{{- end }}
{{- end }}

{{- define "models.volume" -}}
{{- $models := .Values.models -}}
{{- if eq $models.source "pvc" -}}
- { name: models, persistentVolumeClaim: { claimName: {{ $models.pvc.claimName }}, readOnly: true } }
{{- else if eq $models.source "objectStore" -}}
- { name: models, emptyDir: { sizeLimit: {{ $models.objectStore.sizeLimit }} } }
{{- else if $models.image.reference -}}
- { name: models, emptyDir: { sizeLimit: {{ $models.image.sizeLimit }} } }
{{- end }}
{{- end }}
