package naming

import (
	"math"
	"strings"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Protocol is what the mesh's state says of a service's port, given by its target port; empty if it says nothing.
func (d *Directory) Protocol(hostname string, port uint16) string {
	service := d.Service(hostname)
	if service == nil {
		return ""
	}
	for _, p := range service.Ports {
		if p.TargetPort == uint32(port) || p.ServicePort == uint32(port) {
			return requestProtocol(p.AppProtocol)
		}
	}
	return ""
}

func requestProtocol(appProtocol string) string {
	switch p := strings.ToLower(appProtocol); {
	case p == "" || p == "unknown":
		return ""
	case strings.HasPrefix(p, "grpc"):
		return semconv.ProtocolGRPC
	case strings.HasPrefix(p, "http") && !strings.HasPrefix(p, "https"):
		return semconv.ProtocolHTTP
	}
	return semconv.ProtocolTCP
}

// OnlyPort is the target port of a service that has only one.
func (d *Directory) OnlyPort(hostname string) (uint16, bool) {
	service := d.Service(hostname)
	if service == nil || len(service.Ports) != 1 {
		return 0, false
	}
	port := service.Ports[0]
	if port.TargetPort != 0 && port.TargetPort <= math.MaxUint16 {
		return uint16(port.TargetPort), true
	}
	return uint16(port.ServicePort), port.ServicePort <= math.MaxUint16
}

// ServicePort is the target port of a workload for a port of a service "namespace/hostname".
func ServicePort(w *mesh.Workload, service string, port uint32) uint16 {
	for _, p := range w.Services[service] {
		if p.ServicePort == port && p.TargetPort != 0 {
			return uint16(p.TargetPort)
		}
	}
	return uint16(port)
}

// OnlyService returns the first of a workload's services by name that listens on the port (any, if it is 0), and how many
// there are.
func OnlyService(w *mesh.Workload, port uint16) (hostname string, target uint16, choices int) {
	for service, ports := range w.Services {
		for _, p := range ports {
			if p.TargetPort > math.MaxUint16 || p.ServicePort > math.MaxUint16 {
				continue
			}
			candidate := uint16(p.TargetPort)
			if candidate == 0 {
				candidate = uint16(p.ServicePort)
			}
			if port != 0 && candidate != port {
				continue
			}
			choices++
			name := hostnameOf(service)
			if choices == 1 || name < hostname || (name == hostname && candidate < target) {
				hostname, target = name, candidate
			}
		}
	}
	if choices == 0 {
		target = port
	}
	return hostname, target, choices
}

// hostnameOf is the host name in a service's key "namespace/hostname".
func hostnameOf(key string) string {
	_, hostname, _ := strings.Cut(key, "/")
	return hostname
}
