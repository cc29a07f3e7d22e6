package replay

import (
	"io"
	"time"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// longRequest is from how long on a request does not say when its line was written: what was open for hours is told by the lines around it.
const longRequest = int64(10 * time.Second)

// requestSource reads a waypoint's or gateway's standard output, bare or as something kept it, line by line. A line's own time is the end
// of its request.
type requestSource struct {
	lines   *entrySource
	parser  *envoylog.Parser
	gateway bool
	record  envoylog.Record
}

func newRequestSource(in io.Reader, limits Limits, gateway bool) *requestSource {
	return &requestSource{
		lines:   newEntrySource(in, limits, accesslog.Style{Begins: limits.Format.Begins}),
		parser:  envoylog.NewParser(limits.Format),
		gateway: gateway,
	}
}

func (s *requestSource) next(part *Part) error {
	if err := s.lines.next(part); err != nil {
		return err
	}
	part.Gateway, part.own, part.timeAt = s.gateway, 0, textRange{}
	if kind, err := s.parser.Parse(part.Raw, &s.record); err == nil && kind != envoylog.KindOther && s.record.Duration < longRequest {
		part.own = nanosOf(time.Unix(0, s.record.End()))
	}
	return nil
}
