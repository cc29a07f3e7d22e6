package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
)

// changeReader is the changes that are kept. changes.Store is one.
type changeReader interface {
	List(filter changes.Filter, after *changes.Cursor, limit int) (list []changes.Change, total int, next *changes.Cursor)
}

type changeRoutes struct{ changes changeReader }

func (s *changeRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/changes": s.list}
}

func (s *changeRoutes) list(_ *http.Request, p *params) (*answer, error) {
	filter := changes.Filter{Namespace: p.text("namespace"), Name: p.text("name"), Start: p.time("start"), End: p.time("end")}
	if !filter.Start.IsZero() && !filter.End.IsZero() && filter.End.Before(filter.Start) {
		p.fail("end", "lies before start")
	}
	limit := p.limit(defaultLimit, maxLimit)
	after := changeCursor(p)
	if p.err != nil {
		return nil, p.err
	}
	list, total, next := s.changes.List(filter, after, limit)
	body := struct {
		Changes []changes.Change `json:"changes"`
		listBody
	}{list, listBody{Total: total}}
	if next != nil {
		body.Next = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d/%d", next.Time.UnixNano(), next.Number))
	}
	return jsonAnswer(body)
}

func changeCursor(p *params) *changes.Cursor {
	text := p.text("cursor")
	if text == "" {
		return nil
	}
	var nanos int64
	var cursor changes.Cursor
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		_, err = fmt.Sscanf(string(decoded), "%d/%d", &nanos, &cursor.Number)
	}
	if err != nil {
		p.fail("cursor", notACursor)
	}
	cursor.Time = time.Unix(0, nanos).UTC()
	return &cursor
}
