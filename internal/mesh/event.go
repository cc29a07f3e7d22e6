package mesh

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Names of the OpenTelemetry entity data model, encoded as logs
// (opentelemetry-collector-contrib internal/coreinternal and pkg/experimentalmetricmetadata use the same).
const (
	AttrEventAsLog       = "otel.entity.event_as_log"
	AttrEventType        = "otel.entity.event.type"
	AttrEntityType       = "otel.entity.type"
	AttrEntityID         = "otel.entity.id"
	AttrEntityAttributes = "otel.entity.attributes"

	eventState  = "entity_state"
	eventDelete = "entity_delete"

	idKey = "id"
)

// Event is a change of one entity at a time of the data's own clock.
type Event struct {
	Time   pcommon.Timestamp
	Entity Entity
	// Deleted tells that the entity is gone; Entity then holds its identifying fields and perhaps more.
	Deleted bool
}

// IsEntityScope tells whether a scope's log records are entity events.
func IsEntityScope(scope pcommon.InstrumentationScope) bool {
	v, ok := scope.Attributes().Get(AttrEventAsLog)
	return ok && v.Type() == pcommon.ValueTypeBool && v.Bool()
}

// MarkEntityScope states that a scope's log records are entity events.
func MarkEntityScope(scope pcommon.InstrumentationScope) {
	scope.Attributes().PutBool(AttrEventAsLog, true)
}

// AppendTo writes the event as a log record. The records' scope must be marked with MarkEntityScope.
func (e Event) AppendTo(records plog.LogRecordSlice) error {
	raw, err := toMap(e.Entity)
	if err != nil {
		return fmt.Errorf("encoding entity %s %q: %w", e.Entity.Type(), e.Entity.Key(), err)
	}
	record := records.AppendEmpty()
	record.SetTimestamp(e.Time)
	attrs := record.Attributes()
	if e.Deleted {
		attrs.PutStr(AttrEventType, eventDelete)
	} else {
		attrs.PutStr(AttrEventType, eventState)
	}
	attrs.PutStr(AttrEntityType, string(e.Entity.Type()))
	attrs.PutEmptyMap(AttrEntityID).PutStr(idKey, e.Entity.Key())
	if err := attrs.PutEmptyMap(AttrEntityAttributes).FromRaw(raw); err != nil {
		return fmt.Errorf("encoding entity %s %q: %w", e.Entity.Type(), e.Entity.Key(), err)
	}
	return nil
}

// ParseEvent reads an event back from a log record of an entity scope.
func ParseEvent(record plog.LogRecord) (Event, error) {
	attrs := record.Attributes()
	entityType, ok := attrs.Get(AttrEntityType)
	if !ok {
		return Event{}, errors.New("entity event without " + AttrEntityType)
	}
	entity := NewEntity(EntityType(entityType.Str()))
	if entity == nil {
		return Event{}, fmt.Errorf("unknown entity type %q", entityType.Str())
	}
	values, ok := attrs.Get(AttrEntityAttributes)
	if !ok || values.Type() != pcommon.ValueTypeMap {
		return Event{}, errors.New("entity event without " + AttrEntityAttributes)
	}
	if err := decode(values.Map(), entity); err != nil {
		return Event{}, fmt.Errorf("reading entity %s: %w", entityType.Str(), err)
	}
	if entity.Key() == "" || entity.Key() == "/" {
		return Event{}, fmt.Errorf("entity %s without identity", entityType.Str())
	}
	eventType, ok := attrs.Get(AttrEventType)
	if !ok || (eventType.Str() != eventState && eventType.Str() != eventDelete) {
		return Event{}, errors.New("entity event of unknown " + AttrEventType)
	}
	return Event{Time: record.Timestamp(), Entity: entity, Deleted: eventType.Str() == eventDelete}, nil
}

// NewEntity returns an empty entity of a type, nil of one that is not known.
func NewEntity(of EntityType) Entity {
	switch of {
	case TypeWorkload:
		return &Workload{}
	case TypeService:
		return &Service{}
	case TypePolicy:
		return &Policy{}
	case TypeZtunnel:
		return &Ztunnel{}
	}
	return nil
}

func toMap(entity Entity) (map[string]any, error) {
	encoded, err := json.Marshal(entity)
	if err != nil {
		return nil, err
	}
	var raw map[string]any
	return raw, json.Unmarshal(encoded, &raw)
}
