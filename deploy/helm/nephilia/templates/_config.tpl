{{- /* What the chart changes in config/agent.yaml: an exporter, with a queue of its own, for each gateway. */}}
{{- define "nephilia.agentConfig" -}}
{{- $gateway := printf "%s-gateway" (include "nephilia.fullname" .) }}
{{- $exporters := list }}
{{- range $i := until (int .Values.gateway.replicas) }}
{{- $exporters = append $exporters (printf "otlp_grpc/gateway-%d" $i) }}
{{- end }}
receivers:
  ztunnel:
    # The ztunnel of the node is found by the API server, for its address is a pod's.
    kubernetes:
      namespace: {{ include "nephilia.ztunnelNamespace" . }}
      node: ${env:K8S_NODE_NAME}
      logs: files
      metrics: true
      config_dump: {{ .Values.kubernetes.configDump }}
    envoy_logs:
      include:
        {{- range .Values.agent.waypointLogs }}
        - {{ printf "/var/log/pods/*_%s_*/istio-proxy/*.log*" . | quote }}
        {{- else }}
        - /var/log/pods/none
        {{- end }}
    metrics:
      endpoints: []
    config_dump:
      enabled: {{ .Values.kubernetes.configDump }}
      endpoints: []
exporters:
  {{- range $i := until (int .Values.gateway.replicas) }}
  otlp_grpc/gateway-{{ $i }}:
    endpoint: dns:///{{ $gateway }}-{{ $i }}.{{ $gateway }}.{{ $.Release.Namespace }}.svc:4317
    tls:
      {{- if $.Values.tls.existingSecret }}
      ca_file: /etc/nephilia-tls/ca.crt
      {{- if $.Values.tls.agentSecret }}
      cert_file: /etc/nephilia-agent-tls/tls.crt
      key_file: /etc/nephilia-agent-tls/tls.key
      {{- end }}
      reload_interval: 10m
      {{- else }}
      insecure: true
      {{- end }}
    compression: zstd
    # A gateway that comes back is to be found soon; then it takes what all agents kept in the order of its times, for which one
    # may have to wait for another.
    keepalive:
      time: 10s
      timeout: 5s
    timeout: 30s
    sending_queue:
      storage: file_storage
      num_consumers: 1
      queue_size: 10000
    retry_on_failure:
      initial_interval: 1s
      max_interval: 5s
      max_elapsed_time: 0
  {{- end }}
service:
  pipelines:
    metrics:
      exporters: {{ toJson $exporters }}
    logs:
      exporters: {{ toJson $exporters }}
    traces:
      exporters: {{ toJson $exporters }}
{{- end }}

{{- define "nephilia.gatewayConfig" -}}
receivers:
  ztunnel:
    xds:
      pod_name: ${env:POD_NAME}
      namespace: ${env:POD_NAMESPACE}
    {{- if include "nephilia.followsCluster" . }}
    kubernetes:
      namespace: {{ include "nephilia.ztunnelNamespace" . }}
      logs: "off"
      metrics: false
      {{- include "nephilia.followed" . | nindent 6 }}
    {{- end }}
  {{- if .Values.tls.existingSecret }}
  otlp:
    protocols:
      grpc:
        tls: {{- include "nephilia.gatewayTLS" . | nindent 10 }}
      http:
        tls: {{- include "nephilia.gatewayTLS" . | nindent 10 }}
  {{- end }}
  {{- if .Values.spans.from }}
  otlp/applications:
    protocols:
      grpc:
        endpoint: ${env:POD_IP}:4327
      http:
        endpoint: ${env:POD_IP}:4328
processors:
  service_graph:
    requests:
      verify_senders: {{ .Values.spans.verifySenders }}
      relays: {{ toJson .Values.spans.relays }}
  # No application speaks as a ztunnel.
  filter/applications:
    error_mode: ignore
    traces:
      span: ['instrumentation_scope.name == "github.com/nephilia/nephilia/receiver/ztunnelreceiver"']
connectors:
  forward/applications:
  {{- end }}
{{- include "nephilia.serverConfig" . }}
  {{- if .Values.spans.from }}
    traces/applications:
      receivers: [otlp/applications]
      processors: [memory_limiter, filter/applications]
      exporters: [forward/applications]
    traces:
      receivers: [ztunnel, otlp, forward/applications]
  {{- end }}
{{- end }}

{{- define "nephilia.gatewayTLS" }}
cert_file: /etc/nephilia-tls/tls.crt
key_file: /etc/nephilia-tls/tls.key
{{- if .Values.tls.agentSecret }}
client_ca_file: /etc/nephilia-tls/ca.crt
{{- end }}
reload_interval: 10m
{{- end }}

{{- define "nephilia.standaloneConfig" -}}
receivers:
  ztunnel:
    xds:
      pod_name: ${env:POD_NAME}
      namespace: ${env:POD_NAMESPACE}
    # Nothing of a node is mounted: logs come through the API server.
    kubernetes:
      namespace: {{ include "nephilia.ztunnelNamespace" . }}
      logs: api
      metrics: true
      # istio-cni-node's log, where the right to read it comes with that to the ztunnels'.
      cni: {{ eq (include "nephilia.ztunnelNamespace" .) .Values.mesh.istioNamespace }}
      config_dump: {{ .Values.kubernetes.configDump }}
      {{- include "nephilia.followed" . | nindent 6 }}
    access_logs:
      include: []
    metrics:
      endpoints: []
    config_dump:
      enabled: {{ .Values.kubernetes.configDump }}
      endpoints: []
{{- include "nephilia.serverConfig" . }}
{{- end }}

{{- define "nephilia.serverConfig" -}}
{{- $users := and .Values.api.exposed .Values.api.htpasswdSecret }}
{{- with .Values.history.remoteWrite }}
exporters:
  prometheus_remote_write:
    endpoint: {{ . | quote }}
    external_labels:
      {{ $.Values.history.replicaLabel }}: ${env:POD_NAME}
    # Samples of one series must arrive in the order of their times.
    max_batch_request_parallelism: 1
    # A store that is away for a while is waited for, ten minutes in all; what it misses then, later samples make good.
    timeout: 1m
    remote_write_queue:
      queue_size: 600
    # The node is an attribute of the resource: without it what nodes report would be one series, which servers refuse.
    resource_to_telemetry_conversion:
      enabled: true
    target_info:
      enabled: false
{{- end }}
{{- if or $users .Values.history.query }}
extensions:
  {{- if $users }}
  basicauth/api:
    htpasswd:
      file: /etc/nephilia-users/{{ .Values.api.htpasswdKey }}
  {{- end }}
  topology_query:
    {{- if $users }}
    http:
      auth:
        authenticator: basicauth/api
    {{- end }}
    {{- with .Values.history.query }}
    prometheus:
      endpoint: {{ . | quote }}
      {{- if not $.Values.history.deduplicated }}
      replica_label: {{ $.Values.history.replicaLabel }}
      {{- end }}
    {{- end }}
{{- end }}
{{- $exporters := list "topology" }}
{{- if .Values.metrics.enabled }}
{{- $exporters = append $exporters "prometheus" }}
{{- end }}
{{- if .Values.history.remoteWrite }}
{{- $exporters = append $exporters "prometheus_remote_write" }}
{{- end }}
service:
  {{- if $users }}
  extensions: [file_storage, basicauth/api, topology_query, health_check]
  {{- end }}
  pipelines:
    metrics:
      exporters: {{ toJson $exporters }}
{{- end }}

{{- define "nephilia.followsCluster" -}}
{{- if or .Values.kubernetes.waypoints .Values.kubernetes.state }}true{{ end }}
{{- end }}

{{- define "nephilia.followed" -}}
waypoints: {{ .Values.kubernetes.waypoints }}
state: {{ toJson .Values.kubernetes.state }}
{{- with .Values.kubernetes.namespaces }}
workload_namespaces: {{ toJson . }}
{{- end }}
{{- end }}
