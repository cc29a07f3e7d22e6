package appspan

import (
	"encoding/binary"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxOrigins bounds the origins that are remembered, twice: those used lately and those before.
const maxOrigins = 16_384

// Origins remember who wrote spans, so that all spans of a pod share one origin, however many batches they come in. They belong to one goroutine.
type Origins struct {
	current, previous map[string]*Origin // by what a resource says; bounded by maxOrigins
	said              []byte
}

// Of reads the resource of a sender, nil if that is not known. What names no pod may be of several processes: it is shared within a batch only.
func (s *Origins) Of(resource pcommon.Resource, sender *mesh.Workload) *Origin {
	if _, named := resource.Attributes().Get(semconv.AttrPodName); !named || sender != nil || !s.read(resource.Attributes()) {
		return OriginOf(resource)
	}
	if o := s.current[string(s.said)]; o != nil {
		return o
	}
	o := s.previous[string(s.said)]
	if o == nil {
		o = OriginOf(resource)
	}
	if s.current == nil || len(s.current) >= maxOrigins {
		s.previous, s.current = s.current, map[string]*Origin{}
	}
	s.current[string(s.said)] = o
	return o
}

// maxSaid bounds what a resource says that is remembered, in bytes.
const maxSaid = 4 << 10

// read writes down what a resource says of its origin; false means that it is too much, or no text.
func (s *Origins) read(attrs pcommon.Map) bool {
	s.said = s.said[:0]
	for name, value := range attrs.All() {
		switch name {
		case semconv.AttrPodName, semconv.AttrNamespaceName, semconv.AttrServiceName, semconv.AttrServiceNamespace, attrServiceVersion, attrClusterName,
			attrHostName, attrServiceInstance, attrPodIP, attrHostIP, attrNetHostIP, attrJaegerIP, attrDeploymentName, attrStatefulSetName, attrDaemonSetName:
		default:
			continue
		}
		if value.Type() != pcommon.ValueTypeStr || len(s.said)+len(name)+len(value.Str()) > maxSaid {
			return false
		}
		s.said = append(binary.AppendUvarint(s.said, uint64(len(name))), name...)
		s.said = append(binary.AppendUvarint(s.said, uint64(len(value.Str()))), value.Str()...)
	}
	return true
}
