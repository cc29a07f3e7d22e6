{{- /* What the chart changes in config/agent.yaml: an exporter, with a queue of its own, for each gateway. */}}
{{- define "nephilia.agentConfig" -}}
{{- $gateway := printf "%s-gateway" (include "nephilia.fullname" .) }}
{{- $exporters := list }}
{{- range $i := until (int .Values.gateway.replicas) }}
{{- $exporters = append $exporters (printf "otlp_grpc/gateway-%d" $i) }}
{{- end }}
exporters:
  {{- range $i := until (int .Values.gateway.replicas) }}
  otlp_grpc/gateway-{{ $i }}:
    endpoint: dns:///{{ $gateway }}-{{ $i }}.{{ $gateway }}.{{ $.Release.Namespace }}.svc:4317
    tls:
      {{- if $.Values.tls.existingSecret }}
      ca_file: /etc/nephilia-tls/ca.crt
      reload_interval: 10m
      {{- else }}
      insecure: true
      {{- end }}
    compression: zstd
    sending_queue:
      storage: file_storage
      num_consumers: 1
      queue_size: 10000
    retry_on_failure:
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
  {{- if .Values.tls.existingSecret }}
  otlp:
    protocols:
      grpc:
        tls:
          cert_file: /etc/nephilia-tls/tls.crt
          key_file: /etc/nephilia-tls/tls.key
          reload_interval: 10m
  {{- end }}
{{- include "nephilia.serverConfig" . }}
{{- end }}

{{- define "nephilia.standaloneConfig" -}}
receivers:
  ztunnel:
    xds:
      pod_name: ${env:POD_NAME}
      namespace: ${env:POD_NAMESPACE}
{{- include "nephilia.serverConfig" . }}
{{- end }}

{{- define "nephilia.serverConfig" -}}
{{- $users := and .Values.api.exposed .Values.api.htpasswdSecret }}
{{- if $users }}
extensions:
  basicauth/api:
    htpasswd:
      file: /etc/nephilia-users/{{ .Values.api.htpasswdKey }}
  topology_query:
    http:
      auth:
        authenticator: basicauth/api
service:
  extensions: {{ ternary (list "file_storage" "basicauth/api" "topology_query" "health_check") (list "basicauth/api" "topology_query" "health_check") (eq .Values.mode "standalone") | toJson }}
{{- end }}
{{- end }}
