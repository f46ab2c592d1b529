{{- /* What is wrong with the values, beyond their types: one sentence each. The schema's patterns print expressions. */}}
{{- define "vco.checks" -}}
{{- $v := .Values }}
{{- $wrong := list }}
{{- $emulated := $v.emulator.enabled }}
{{- $token := or $v.token.existingSecret $v.token.value }}

{{- $label := "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" }}
{{- $subdomain := "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$" }}
{{- $key := "^[-._a-zA-Z0-9]+$" }}
{{- $duration := "^(([0-9]+h)?([0-9]+m)?([0-9]+s)?|[0-9]+)$" }}

{{- if and $v.token.existingSecret $v.token.value }}
  {{- $wrong = append $wrong "token: existingSecret and value are both set; set one of them" }}
{{- end }}
{{- if and $emulated $token }}
  {{- $wrong = append $wrong "token: emulator.enabled is set, and a real token must not be used with an emulator; leave token.existingSecret and token.value empty, or set emulator.enabled to false" }}
{{- end }}
{{- if $emulated }}
  {{- range $v.extraEnv }}
    {{- if has .name (list "VERCEL_TOKEN" "VERCEL_TOKEN_FILE" "VERCEL_API_URL") }}
      {{- $wrong = append $wrong (printf "extraEnv: emulator.enabled is set, and a real token must not be used with an emulator; the chart sets the token and the API's URL itself; remove %s, or set emulator.enabled to false" .name) }}
    {{- end }}
  {{- end }}
  {{- range $v.extraArgs }}
    {{- $option := regexFind "^--vercel-(token-file|token|api-url)" . }}
    {{- if $option }}
      {{- $wrong = append $wrong (printf "extraArgs: emulator.enabled is set, and a real token must not be used with an emulator; the chart sets the token and the API's URL itself; remove %s, or set emulator.enabled to false" $option) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if and $token (not $emulated) (not $v.defaultToken.namespaces) }}
  {{- $wrong = append $wrong "defaultToken.namespaces: is required with token.existingSecret or token.value; list the namespaces whose resources may use the default token, such as {web,shop}, or write {*} to allow all namespaces" }}
{{- end }}
{{- if and $v.vercel.teamId $v.vercel.teamSlug }}
  {{- $wrong = append $wrong "vercel: teamId and teamSlug are both set; name the team by one of them" }}
{{- end }}
{{- if and $v.vercel.teamId (not (hasPrefix "team_" $v.vercel.teamId)) }}
  {{- $wrong = append $wrong (printf "vercel.teamId: %q is not the id of a team, which begins with team_; use vercel.teamSlug for a slug" $v.vercel.teamId) }}
{{- end }}
{{- if not (regexMatch "^[a-zA-Z0-9._-]*$" $v.vercel.teamSlug) }}
  {{- $wrong = append $wrong (printf "vercel.teamSlug: %q is not the slug of a team; write what follows vercel.com/ in its URL" $v.vercel.teamSlug) }}
{{- end }}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) }}
  {{- $wrong = append $wrong "serviceAccount.name: is required with serviceAccount.create=false; write the name of the ServiceAccount to use" }}
{{- end }}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled }}
  {{- $wrong = append $wrong "metrics: serviceMonitor and podMonitor are both enabled, so everything would be scraped twice; enable one of them" }}
{{- end }}
{{- if and $v.caBundle.configMap $v.caBundle.secret }}
  {{- $wrong = append $wrong "caBundle: configMap and secret are both set; set one of them" }}
{{- end }}
{{- if has "--no-leader-elect" $v.extraArgs }}
  {{- if gt (int $v.replicas) 1 }}
    {{- $wrong = append $wrong (printf "replicas: %d replicas need a leader; remove --no-leader-elect from extraArgs, or set replicas to 1" (int $v.replicas)) }}
  {{- else if ne (default "" (default dict $v.strategy).type) "Recreate" }}
    {{- $wrong = append $wrong "strategy: without a leader, an upgrade must not run two pods at a time; set strategy.type to Recreate, or remove --no-leader-elect from extraArgs" }}
  {{- end }}
{{- end }}

{{- if and $v.image.digest (not (regexMatch "^sha256:[0-9a-f]{64}$" $v.image.digest)) }}
  {{- $wrong = append $wrong (printf "image.digest: %q is not a digest; write sha256: and 64 hexadecimal digits" $v.image.digest) }}
{{- end }}
{{- range $where, $name := dict "token.existingSecret" $v.token.existingSecret "serviceAccount.name" $v.serviceAccount.name "namespaceOverride" $v.namespaceOverride "caBundle.configMap" $v.caBundle.configMap "caBundle.secret" $v.caBundle.secret }}
  {{- if and $name (not (regexMatch $subdomain $name)) }}
    {{- $wrong = append $wrong (printf "%s: %q is not a name that Kubernetes accepts; use a to z, 0 to 9, - and ." $where $name) }}
  {{- end }}
{{- end }}
{{- range $v.tokenSecrets.names }}
  {{- if not (regexMatch $subdomain .) }}
    {{- $wrong = append $wrong (printf "tokenSecrets.names: %q is not the name of a Secret; use a to z, 0 to 9, - and ." .) }}
  {{- end }}
{{- end }}
{{- range $where, $name := dict "token.key" $v.token.key "caBundle.key" $v.caBundle.key }}
  {{- if not (regexMatch $key $name) }}
    {{- $wrong = append $wrong (printf "%s: %q is not a key of a Secret or ConfigMap; use letters, digits, -, _ and ." $where $name) }}
  {{- end }}
{{- end }}
{{- range $v.watchNamespaces }}
  {{- if not (regexMatch $label .) }}
    {{- $wrong = append $wrong (printf "watchNamespaces: %q is not the name of a namespace; use a to z, 0 to 9 and -" .) }}
  {{- end }}
{{- end }}
{{- range $v.defaultToken.namespaces }}
  {{- if not (or (eq . "*") (regexMatch $label .)) }}
    {{- $wrong = append $wrong (printf "defaultToken.namespaces: %q is neither the name of a namespace nor *, which allows all namespaces" .) }}
  {{- end }}
{{- end }}
{{- range $where, $value := dict "driftInterval" (include "vco.duration" $v.driftInterval) "uploads.pollInterval" (include "vco.duration" $v.uploads.pollInterval) "metrics.serviceMonitor.interval" $v.metrics.serviceMonitor.interval "metrics.serviceMonitor.scrapeTimeout" $v.metrics.serviceMonitor.scrapeTimeout "metrics.podMonitor.interval" $v.metrics.podMonitor.interval "metrics.podMonitor.scrapeTimeout" $v.metrics.podMonitor.scrapeTimeout }}
  {{- if not (regexMatch $duration $value) }}
    {{- $wrong = append $wrong (printf "%s: %q is not a duration; write it as in 90s, 1h30m or 6h" $where $value) }}
  {{- end }}
{{- end }}
{{- $most := $v.podDisruptionBudget.maxUnavailable }}
{{- if and (kindIs "string" $most) (not (regexMatch "^[0-9]+%$" $most)) }}
  {{- $wrong = append $wrong (printf "podDisruptionBudget.maxUnavailable: %q is neither a number nor a percentage, such as 50%%" $most) }}
{{- end }}
{{- range $where, $url := dict "proxy.httpProxy" $v.proxy.httpProxy "proxy.httpsProxy" $v.proxy.httpsProxy }}
  {{- if and $url (not (regexMatch "^(https?://)?([^@/]*@)?[^@/]+/?$" $url)) }}
    {{- $wrong = append $wrong (printf "%s: is not the URL of a proxy; write it as in http://proxy.example.com:3128" $where) }}
  {{- end }}
{{- end }}
{{- range $v.imagePullSecrets }}
  {{- if and (kindIs "map" .) (not .name) }}
    {{- $wrong = append $wrong "imagePullSecrets: an entry has no name; write [{name: registry}]" }}
  {{- end }}
{{- end }}

{{- if $v.policy.enabled }}
  {{- if semverCompare "<1.30.0-0" .Capabilities.KubeVersion.Version }}
    {{- $wrong = append $wrong (printf "policy.enabled: a ValidatingAdmissionPolicy needs Kubernetes 1.30 or newer, and this is %s" .Capabilities.KubeVersion.Version) }}
  {{- end }}
  {{- if not $v.policy.allow }}
    {{- $wrong = append $wrong "policy.allow: is required with policy.enabled, since what no entry allows is rejected; list who may request what, or write [{namespaces: [\"*\"], cns: [\"*\"]}] to allow all names" }}
  {{- end }}
{{- end }}
{{- range concat $v.policy.allow $v.policy.allowAdoption }}
  {{- range .namespaces }}
    {{- if not (regexMatch "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|([a-z0-9][a-z0-9-]{0,61})?\\*)$" .) }}
      {{- $wrong = append $wrong (printf "policy: %q is neither the name of a namespace nor a prefix with *, such as team-a-*" .) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $v.policy.allow }}
  {{- range .cns }}
    {{- if not (regexMatch "^(\\*|(\\*\\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$" .) }}
      {{- $wrong = append $wrong (printf "policy.allow: %q is not a pattern of names; write example.com for one name, *.example.com for all names below it, or * for all names, in lower case" .) }}
    {{- end }}
  {{- end }}
  {{- if and (hasKey . "teams") (not .teams) }}
    {{- $wrong = append $wrong "policy.allow: teams is an empty list; list ids and slugs of teams, or remove teams to allow all teams" }}
  {{- end }}
  {{- range .teams }}
    {{- if not (regexMatch "^[a-zA-Z0-9._-]*$" .) }}
      {{- $wrong = append $wrong (printf "policy.allow: %q is neither the id nor the slug of a team" .) }}
    {{- end }}
  {{- end }}
{{- end }}

{{- range $entry := $v.policy.allowAdoption }}
  {{- range list "users" "groups" }}
    {{- if and (hasKey $entry .) (not (get $entry .)) }}
      {{- $wrong = append $wrong (printf "policy.allowAdoption: %s is an empty list; list %s, or remove it; an entry without users and groups allows all users" . .) }}
    {{- end }}
  {{- end }}
{{- end }}

{{- with $wrong }}
  {{- fail (printf "these values are invalid:\n  %s" (join "\n  " .)) }}
{{- end }}
{{- end }}
