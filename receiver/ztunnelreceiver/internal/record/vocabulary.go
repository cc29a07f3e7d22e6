package record

import "strings"

// vocabulary are words that are no names, although a name may have them: what ztunnels, Envoys and Kubernetes say of themselves, by which logs
// and metrics are read. They are not replaced.
var vocabulary = strings.Fields(`
	Address Authorization access active addr address admin googleapis allowed already api args authorization available b3 batch_size because bind bytes bytes_recv bytes_sent
	call canonical cannot capture certificate cleanup client close closed closing cluster code com complete component config connect connection
	connections connectivity control data deadline default delta denied deny destination direction dns download drain dst dump duration
	elapsed empty error errors eof established event exceeded exec expired explicitly explicit failed failure family fd find for found from
	gateway get global go grpc h2 handle handshake hash hbone hbone_addr HBONE HTTP http http2 https host hostname id identity in inbound
	inbound_passthrough info inpod inspect internal invalid io ip ipc is istio istiod istio_system kube Kubernetes listener local localhost lookup
	manager match matched max message method missing mutual_tls name namespace net network no node none not ns of only open opened org os other
	outbound peer Pod pod policy policies port ppv2 protocol proxy pub query queue ready recv refused reject rejected rejection reporter request
	requests reset resolve resolved resource response response_code response_flags route rs rust sa scope secret secure send sent server service
	ServiceEntry services Service set shutdown source span spiffe src ssl state static status stream success svc sync system task tcp time timed
	timeout timer tls to tokio top trace traffic trust type udp unavailable unexpected unhealthy unknown upstream uri url user v1 version via warn
	waypoint waypoints workload workloads Workload WorkloadEntry xds ztunnel deployment daemonset statefulset replicaset job cronjob coredns
	cluster_local istio_proxy latest main PassthroughCluster BlackHoleCluster InboundPassthroughCluster
`)
