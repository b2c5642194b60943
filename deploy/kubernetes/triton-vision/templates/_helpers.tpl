{{- define "name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{ $name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* selects the pods of one component: (list $ "server") */}}
{{- define "selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "labels" -}}
{{- $root := index . 0 -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "container.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* of a pod: (list USER) */}}
{{- define "pod.security" -}}
{{- $user := index . 0 -}}
runAsNonRoot: true
runAsUser: {{ $user }}
runAsGroup: {{ $user }}
fsGroup: {{ $user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* over zones and hosts, for each version of the pods: (list $ "server") */}}
{{- define "spread" -}}
{{- $root := index . 0 -}}
{{- range $index, $key := $root.Values.topologySpread }}
{{- if $index }}
{{ end }}- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: { matchLabels: { app.kubernetes.io/instance: {{ $root.Release.Name }}, app.kubernetes.io/component: {{ index $ 1 }} } }
  matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}

{{/* The server's pre-stop hook, the 35 s that the launcher gives tritonserver, and what it takes to end. */}}
{{- define "server.grace" -}}
{{ add (int .Values.drain.announceSeconds) 35 10 }}
{{- end }}

{{/* The name by which the gateway finds the servers: whole, as HAProxy's resolver adds no search domain. */}}
{{- define "servers.address" -}}
{{ include "name" . }}-servers.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{/* The public key that models are verified with. */}}
{{- define "signature.volume" -}}
{{- $signature := .Values.models.signature -}}
{{- $file := printf "items: [{ key: %s, path: %s }]" $signature.key $signature.key -}}
{{- if $signature.secretName -}}
- { name: key, secret: { secretName: {{ $signature.secretName }}, {{ $file }} } }
{{- else -}}
- { name: key, configMap: { name: {{ $signature.configMapName }}, {{ $file }} } }
{{- end }}
{{- end }}

{{- /* Of a quantity such as 512Mi: how many bytes or CPUs. */ -}}
{{- define "quantity.number" -}}
{{- $units := dict "" 1 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .)) -}}
{{- end }}
