{{- define "nephilia.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "nephilia.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "nephilia.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "nephilia.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Labels by which objects find their pods. Takes (list . "agent"). */}}
{{- define "nephilia.selector" -}}
app.kubernetes.io/name: {{ include "nephilia.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "nephilia.labels" -}}
{{ include "nephilia.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Whether the pod is part of the mesh. The labels of the pod win over its namespace's. */}}
{{- define "nephilia.meshLabels" -}}
istio.io/dataplane-mode: {{ ternary "ambient" "none" .Values.mesh.member }}
sidecar.istio.io/inject: "false"
{{- end }}

{{- define "nephilia.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- /* Takes (list . "gateway"). OpenShift gives each namespace its users and groups. */}}
{{- define "nephilia.serverSecurity" -}}
{{- $default := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- if ne (include "nephilia.platform" (index . 0)) "openshift" }}
{{- $default = merge $default (dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "fsGroupChangePolicy" "OnRootMismatch") }}
{{- end }}
{{- include "nephilia.podSecurity" (append . $default) }}
{{- end }}

{{- define "nephilia.agentSecurity" -}}
{{- $user := int .Values.agent.runAsUser }}
{{- $group := int .Values.agent.runAsGroup }}
{{- /* A folder on the node belongs to root, as do Talos's logs. */}}
{{- if or .Values.agent.positions.hostPath (eq (include "nephilia.platform" .) "talos") }}
{{- $user = 0 }}
{{- $group = 0 }}
{{- end }}
{{- $default := dict "runAsUser" $user "runAsGroup" $group "runAsNonRoot" (ne $user 0) "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- /* SELinux lets ordinary containers read no logs of others. */}}
{{- if eq (include "nephilia.platform" .) "openshift" }}
{{- $default = merge $default (dict "seLinuxOptions" (dict "type" "spc_t")) }}
{{- end }}
{{- include "nephilia.podSecurity" (list . "agent" $default) }}
{{- end }}

{{- /* What a pod gets: a default, the release's values, the part's. Takes (list . "agent" default). */}}
{{- define "nephilia.podSecurity" -}}
{{- $part := index (index . 0).Values (index . 1) }}
{{- $security := merge (deepCopy $part.podSecurityContext) (deepCopy (index . 0).Values.podSecurityContext) (index . 2) }}
{{- with default (index . 0).Values.seLinuxOptions $part.seLinuxOptions }}
{{- $security = set $security "seLinuxOptions" . }}
{{- end }}
{{- toYaml $security }}
{{- end }}

{{- define "nephilia.containerSecurity" -}}
{{- $default := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) }}
{{- toYaml (merge (deepCopy (index (index . 0).Values (index . 1)).securityContext) (deepCopy (index . 0).Values.securityContext) $default) }}
{{- end }}

{{- /* A list of the release's values and the part's. Takes (list . "agent" "extraVolumes"). */}}
{{- define "nephilia.joined" -}}
{{- with concat (index (index . 0).Values (index . 2)) (index (index . 0).Values (index . 1) (index . 2)) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "nephilia.platform" -}}
{{- (.Values.global).platform }}
{{- end }}

{{- /* The service account of a part. Takes (list . "agent"). */}}
{{- define "nephilia.account" -}}
{{- $root := index . 0 }}
{{- if $root.Values.serviceAccount.name }}
{{- $root.Values.serviceAccount.name }}
{{- else if not $root.Values.serviceAccount.create }}default
{{- else if eq (index . 1) "standalone" }}
{{- include "nephilia.fullname" $root }}
{{- else }}
{{- printf "%s-%s" (include "nephilia.fullname" $root) (index . 1) }}
{{- end }}
{{- end }}

{{- define "nephilia.ztunnelNamespace" -}}
{{- default .Values.mesh.istioNamespace .Values.mesh.ztunnelNamespace }}
{{- end }}

{{- define "nephilia.istiodNamespace" -}}
{{- default .Values.mesh.istioNamespace .Values.mesh.istiodNamespace }}
{{- end }}

{{- define "nephilia.xdsEndpoint" -}}
{{- default (printf "istiod.%s.svc:15012" (include "nephilia.istiodNamespace" .)) .Values.mesh.xdsEndpoint }}
{{- end }}

{{- /* How istiod is reached. */}}
{{- define "nephilia.xdsEnv" -}}
- name: NEPHILIA_XDS
  value: {{ include "nephilia.xdsEndpoint" . | quote }}
- name: NEPHILIA_XDS_INSECURE
  value: {{ not .Values.mesh.xdsTLS | quote }}
{{- if .Values.mesh.xdsTLS }}
- name: NEPHILIA_XDS_CA
  value: /var/run/secrets/istio/{{ .Values.mesh.rootCertificate.key }}
- name: NEPHILIA_XDS_TOKEN
  value: /var/run/secrets/tokens/istio-token
{{- end }}
{{- end }}

{{- define "nephilia.xdsMounts" -}}
{{- if .Values.mesh.xdsTLS }}
- name: istiod-root-certificate
  mountPath: /var/run/secrets/istio
  readOnly: true
- name: istio-token
  mountPath: /var/run/secrets/tokens
  readOnly: true
{{- end }}
{{- end }}

{{- define "nephilia.xdsVolumes" -}}
{{- if .Values.mesh.xdsTLS }}
- name: istiod-root-certificate
  configMap:
    name: {{ .Values.mesh.rootCertificate.configMap }}
# Kept separate from the API server's token: this one is worth nothing to the API server.
- name: istio-token
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ .Values.mesh.tokenAudience }}
          expirationSeconds: {{ .Values.mesh.tokenExpirationSeconds }}
          path: istio-token
{{- end }}
{{- end }}

{{- /* The pod's address as it stands before a port: in brackets where it is one of IPv6. */}}
{{- define "nephilia.podIPEnv" -}}
{{- $ipv6 := eq .Values.global.ipFamily "IPv6" -}}
- name: {{ ternary "POD_ADDRESS" "POD_IP" $ipv6 }}
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- if $ipv6 }}
- name: POD_IP
  value: "[$(POD_ADDRESS)]"
{{- end }}
{{- end }}

{{- /* Common variables of whatever serves the API. Takes the values of the part. */}}
{{- define "nephilia.serverEnv" -}}
{{- include "nephilia.podIPEnv" $ }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: NEPHILIA_HEALTH
  value: $(POD_IP):13133
- name: NEPHILIA_DATA
  value: /var/lib/nephilia
{{- if .Values.api.exposed }}
# All addresses, for port-forwarding ends at the pod's localhost.
- name: NEPHILIA_API
  value: ":16680"
{{- end }}
{{- if .Values.metrics.enabled }}
- name: NEPHILIA_PROMETHEUS
  value: $(POD_IP):9464
{{- end }}
{{- include "nephilia.telemetryEnv" . }}
{{- end }}

{{- define "nephilia.telemetryEnv" -}}
{{- if .Values.telemetry.enabled }}
- name: NEPHILIA_TELEMETRY_HOST
  value: $(POD_IP)
{{- end }}
{{- end }}

{{- /* How much memory may be used. Takes the values of the part. */}}
{{- define "nephilia.memoryEnv" -}}
- name: NEPHILIA_MEMORY_LIMIT_MIB
  value: {{ .memoryLimitMiB | quote }}
# Garbage is collected before the memory limiter, which takes it for use, refuses data: at four fifths of the limit.
- name: GOMEMLIMIT
  value: {{ printf "%dMiB" (div (mul (int .memoryLimitMiB) 4) 5) | quote }}
{{- end }}

{{- define "nephilia.probes" -}}
startupProbe:
  httpGet: {path: /, port: health}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /, port: health}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /, port: health}
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{- /* A NetworkPolicy's peers out of "all" or a list of namespaces. */}}
{{- define "nephilia.peers" -}}
{{- if kindIs "string" . }}
- namespaceSelector: {}
{{- else }}
{{- range . }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Certificates and users, where there are any. */}}
{{- define "nephilia.secretMounts" -}}
{{- if and .Values.tls.existingSecret (eq .Values.mode "agents") }}
- name: tls
  mountPath: /etc/nephilia-tls
  readOnly: true
{{- end }}
{{- if and .Values.api.exposed .Values.api.htpasswdSecret }}
- name: users
  mountPath: /etc/nephilia-users
  readOnly: true
{{- end }}
{{- end }}

{{- define "nephilia.secretVolumes" -}}
{{- if and .Values.tls.existingSecret (eq .Values.mode "agents") }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret }}
{{- end }}
{{- if and .Values.api.exposed .Values.api.htpasswdSecret }}
- name: users
  secret:
    secretName: {{ .Values.api.htpasswdSecret }}
{{- end }}
{{- end }}

{{- /* Which part serves the API, the metrics and OTLP, and its name. */}}
{{- define "nephilia.server" -}}
{{- ternary "gateway" "standalone" (eq .Values.mode "agents") }}
{{- end }}
{{- define "nephilia.serverName" -}}
{{- if eq .Values.mode "agents" }}{{ include "nephilia.fullname" . }}-gateway{{ else }}{{ include "nephilia.fullname" . }}{{ end }}
{{- end }}
