{{- define "vco.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "vco.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- /* For objects outside the release's namespace, where another release may have the same name. The hash keeps a-b and c
apart from a and b-c. With -view or -edit, it has at most 63 characters. */}}
{{- define "vco.wideName" -}}
{{- $namespace := include "vco.namespace" . }}
{{- $name := include "vco.fullname" . }}
{{- $hash := printf "%s/%s" $namespace $name | sha256sum | trunc 8 }}
{{- printf "%s-%s" $namespace $name | trunc 49 | trimSuffix "-" }}-{{ $hash }}
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
{{- else }}{{ .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- /* A large number would be printed with an exponent. */}}
{{- define "vco.duration" -}}
{{ kindIs "string" . | ternary . (int64 .) }}
{{- end }}

{{- define "vco.image" -}}
{{- $repository := .Values.image.repository }}
{{- with .Values.global.imageRegistry }}
{{- /* As container engines see it: what comes before the first slash is a registry if it has a dot or a port. */}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") }}
{{- end }}
{{- if .Values.image.digest }}{{ $repository }}@{{ .Values.image.digest }}
{{- else }}{{ $repository }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{- define "vco.pullSecrets" -}}
{{- $secrets := list }}
{{- range concat (default list .Values.global.imagePullSecrets) .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $secrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vco.tokenSecret" -}}
{{- if .Values.token.existingSecret }}{{ .Values.token.existingSecret }}
{{- else if .Values.token.value }}{{ include "vco.fullname" . }}-token{{ end }}
{{- end }}

{{- define "vco.rules" -}}
# patch: to add and remove the finalizer. get: to read a resource again after a rejected write.
- apiGroups: [vercel-operator.io]
  resources: [vercelcertificates]
  verbs: [get, list, watch, patch]
- apiGroups: [vercel-operator.io]
  resources: [vercelcertificates/status]
  verbs: [patch]
# patch: to count a repeated Event.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if .Values.tokenSecrets.enabled }}
# For spec.tokenSecretRef and spec.certificateSecretRef. No list, and no watch.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
  {{- with .Values.tokenSecrets.names }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* TCP ports of the proxies, as a JSON array. */}}
{{- define "vco.proxyPorts" -}}
{{- $ports := list }}
{{- range compact (list .Values.proxy.httpsProxy .Values.proxy.httpProxy) }}
{{- $default := ternary 443 80 (hasPrefix "https:" .) }}
{{- $ports = append $ports (int (default $default (regexFind ":[0-9]+/?$" . | trimPrefix ":" | trimSuffix "/"))) }}
{{- end }}
{{- toJson (uniq $ports) }}
{{- end }}

{{- /* Hosts that are requested directly. The emulator is in the cluster, whatever the proxy. */}}
{{- define "vco.noProxy" -}}
{{- $hosts := .Values.proxy.noProxy }}
{{- if kindIs "string" $hosts }}{{ $hosts = compact (list $hosts) }}{{ end }}
{{- if .Values.emulator.enabled }}{{ $hosts = append $hosts (include "vco.emulatorHost" .) }}{{ end }}
{{- join "," $hosts }}
{{- end }}

{{- define "vco.emulatorHost" -}}
{{ include "vco.fullname" . }}-emulator.{{ include "vco.namespace" . }}.svc
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
