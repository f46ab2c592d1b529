{{- define "vco.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- /* Of what stands outside the release's namespace: another release may have the same name there. */}}
{{- define "vco.wideName" -}}
{{ .Release.Namespace }}-{{ include "vco.fullname" . }}
{{- end }}

{{- define "vco.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vco.labels" -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service }}
{{- toYaml (mergeOverwrite (deepCopy .Values.commonLabels) $own (include "vco.selector" . | fromYaml)) }}
{{- end }}

{{- /* Labels of the pods of a component. What the selector needs can't be overridden. */}}
{{- define "vco.podLabels" -}}
{{- $own := set (include "vco.selector" .root | fromYaml) "app.kubernetes.io/component" .component }}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.commonLabels) .root.Values.podLabels $own) }}
{{- end }}

{{- /* Labels and annotations of every object. */}}
{{- define "vco.common" -}}
labels: {{- include "vco.labels" . | nindent 2 }}
{{- with .Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vco.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "vco.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "vco.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{- define "vco.tokenSecret" -}}
{{- if .Values.token.existingSecret }}{{ .Values.token.existingSecret }}
{{- else if .Values.token.value }}{{ include "vco.fullname" . }}-token{{ end }}
{{- end }}

{{- define "vco.rules" -}}
# Patch: the finalizer, and the attempt that is written ahead. Get: what has become of one whose write was refused.
- apiGroups: [vercel-operator.io]
  resources: [vercelcertificates]
  verbs: [get, list, watch, patch]
- apiGroups: [vercel-operator.io]
  resources: [vercelcertificates/status]
  verbs: [patch]
# Patch: an Event that is said again is counted.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.tokenSecrets.enabled }}
# The tokens of spec.tokenSecretRef. No list and no watch.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
  {{- with .Values.tokenSecrets.names }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Where the pods of both components may run. */}}
{{- define "vco.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
