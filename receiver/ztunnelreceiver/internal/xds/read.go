package xds

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// DefaultMaxMessageBytes bounds one response, recorded or live.
const DefaultMaxMessageBytes = 64 << 20

const binaryHeaderBytes = 8 + 4

// ReadJSON reads one line of a recording: {"time":RFC 3339,"response":DeltaDiscoveryResponse as protobuf JSON}.
func ReadJSON(line []byte) (time.Time, *discoveryv3.DeltaDiscoveryResponse, error) {
	var record struct {
		Time     time.Time       `json:"time"`
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(line, &record); err != nil {
		return time.Time{}, nil, fmt.Errorf("reading xDS record: %w", err)
	}
	if record.Time.IsZero() {
		return time.Time{}, nil, errors.New("reading xDS record: no time")
	}
	if len(record.Response) == 0 {
		return time.Time{}, nil, errors.New("reading xDS record: no response")
	}
	response := &discoveryv3.DeltaDiscoveryResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(record.Response, response); err != nil {
		return time.Time{}, nil, fmt.Errorf("reading xDS response: %w", err)
	}
	return record.Time.UTC(), response, nil
}

// ReadBinary reads the next record of a binary recording: 8 bytes of unix nanoseconds and 4 of length, big-endian, then
// that many bytes of a DeltaDiscoveryResponse, at most maxBytes (0 means DefaultMaxMessageBytes). It returns io.EOF at
// the end and an error that wraps io.ErrUnexpectedEOF where the recording was cut.
func ReadBinary(r io.Reader, maxBytes int) (time.Time, *discoveryv3.DeltaDiscoveryResponse, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxMessageBytes
	}
	var header [binaryHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return time.Time{}, nil, io.EOF
		}
		return time.Time{}, nil, fmt.Errorf("reading xDS record's header: %w", err)
	}
	nanos := binary.BigEndian.Uint64(header[:8])
	length := binary.BigEndian.Uint32(header[8:])
	if nanos > math.MaxInt64 {
		return time.Time{}, nil, fmt.Errorf("reading xDS record: time of %d ns", nanos)
	}
	if uint64(length) > uint64(maxBytes) {
		return time.Time{}, nil, fmt.Errorf("reading xDS record: %d bytes exceed the bound of %d", length, maxBytes)
	}
	// The stated length is believed only as far as data follows.
	raw, err := io.ReadAll(io.LimitReader(r, int64(length)))
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("reading xDS record: %w", err)
	}
	if len(raw) < int(length) {
		return time.Time{}, nil, fmt.Errorf("reading xDS record: %w", io.ErrUnexpectedEOF)
	}
	response := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(raw, response); err != nil {
		return time.Time{}, nil, fmt.Errorf("reading xDS response: %w", err)
	}
	return time.Unix(0, int64(nanos)).UTC(), response, nil
}
