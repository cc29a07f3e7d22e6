package jaegergrpc

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

var errMalformed = errors.New("the request is no protobuf message of this method")

// message is an encoded message.
type message []byte

// field is one field of a message: a number, or bytes.
type field struct {
	number int
	value  uint64
	bytes  []byte
}

func (f field) text() string { return string(f.bytes) }

func (f field) message() message { return f.bytes }

// fields calls visit with each field, until it fails.
func (m message) fields(visit func(f field) error) error {
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return errMalformed
		}
		m = m[n:]
		f := field{number: int(number)}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(m)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(m)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(m)
		default:
			n = protowire.ConsumeFieldValue(number, kind, m)
		}
		if n < 0 {
			return errMalformed
		}
		m = m[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

// text appends a string, number a number that is not 0, embedded a message.

func (m message) text(number protowire.Number, value string) message {
	if value == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), value)
}

func (m message) number(number protowire.Number, value uint64) message {
	if value == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), value)
}

func (m message) embedded(number protowire.Number, value message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), value)
}

func timestamp(t time.Time) message {
	return message(nil).number(1, uint64(t.Unix())).number(2, uint64(t.Nanosecond()))
}

// secondsAndNanos reads a google.protobuf.Timestamp or Duration.
func (f field) secondsAndNanos() (seconds, nanos int64, err error) {
	err = f.message().fields(func(f field) error {
		switch f.number {
		case 1:
			seconds = int64(f.value)
		case 2:
			nanos = int64(int32(f.value))
		}
		return nil
	})
	return seconds, nanos, err
}

func (f field) time() (time.Time, error) {
	seconds, nanos, err := f.secondsAndNanos()
	return time.Unix(seconds, nanos).UTC(), err
}

func (f field) duration() (time.Duration, error) {
	seconds, nanos, err := f.secondsAndNanos()
	const most = int64(1) << 32
	return time.Duration(min(max(seconds, -most), most))*time.Second + time.Duration(nanos), err
}

// keyValue reads an attribute of the storage: a KeyValue, whose value is an AnyValue.
func keyValue(f field) (name, value string, err error) {
	err = f.message().fields(func(f field) error {
		switch f.number {
		case 1:
			name = f.text()
		case 2:
			return f.message().fields(func(f field) error {
				switch f.number {
				case 1:
					value = f.text()
				case 2:
					value = strconv.FormatBool(f.value != 0)
				case 3:
					value = strconv.FormatInt(int64(f.value), 10)
				default:
					return status.Errorf(codes.Unimplemented, "the attribute %q is neither text, nor a whole number, nor a boolean", name)
				}
				return nil
			})
		}
		return nil
	})
	return name, value, err
}

// mapEntry reads an attribute of the query service: an entry of a map of strings.
func mapEntry(f field) (name, value string, err error) {
	err = f.message().fields(func(f field) error {
		switch f.number {
		case 1:
			name = f.text()
		case 2:
			value = f.text()
		}
		return nil
	})
	return name, value, err
}

// query reads a request's only field, TraceQueryParameters.
func (a *api) query(request message, d dialect) (traces.Query, error) {
	q := traces.Query{Attributes: map[string]string{}, Order: traces.OrderNewest, Limit: defaultTraces}
	err := request.fields(func(f field) error {
		if f.number != 1 {
			return nil
		}
		return f.message().fields(func(f field) (err error) {
			switch {
			case slices.Contains(d.refused, f.number):
				return status.Error(codes.Unimplemented, "filters and pages are not supported; see the capabilities")
			case f.number == 1:
				q.Service = f.text()
			case f.number == 2:
				q.Operation = f.text()
			case f.number == 3:
				name, value, err := d.attribute(f)
				if err != nil {
					return err
				}
				if name == "error" {
					// Jaeger makes this attribute of a span's status.
					if value == "true" {
						q.Status = "error"
					}
					return nil
				}
				q.Attributes[name] = value
			case f.number == 4:
				q.Start, err = f.time()
			case f.number == 5:
				q.End, err = f.time()
			case f.number == 6:
				q.MinDuration, err = f.duration()
			case f.number == 7:
				q.MaxDuration, err = f.duration()
			case f.number == 8 && f.value > 0:
				q.Limit = int(min(f.value, maxTraces))
			}
			return err
		})
	})
	if q.End.IsZero() {
		// Spans may be newer than the data's time.
		q.End = a.Now().Add(time.Hour)
	}
	return q, err
}
