{{- define "expansion.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end }}

{{- define "expansion.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "expansion.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "expansion.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "expansion.selector" -}}
app.kubernetes.io/name: {{ include "expansion.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "expansion.labels" -}}
{{ include "expansion.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "expansion.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "expansion.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is required when serviceAccount.create is false: name the account the operator shall use." .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- /* (dict "root" . "image" .Values.images.operator) -> registry/repository:tag or @digest */ -}}
{{- define "expansion.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.images.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}
