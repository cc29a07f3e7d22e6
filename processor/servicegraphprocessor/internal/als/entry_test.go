package als

import (
	"testing"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/stretchr/testify/assert"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestFlags(t *testing.T) {
	assert.Empty(t, flagsOf(nil))
	assert.Equal(t, "URX,UF", flagsOf(&accesslog.ResponseFlags{UpstreamRetryLimitExceeded: true, UpstreamConnectionFailure: true}))
	// Each flag of the message is written, and once.
	written := map[string]bool{}
	fields := (&accesslog.ResponseFlags{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		var flags accesslog.ResponseFlags
		field := fields.Get(i)
		value := protoreflect.ValueOfBool(true)
		if field.Message() != nil {
			value = flags.ProtoReflect().NewField(field)
		}
		flags.ProtoReflect().Set(field, value)
		text := flagsOf(&flags)
		assert.NotEmpty(t, text, field.Name())
		assert.NotContains(t, text, ",", field.Name())
		assert.False(t, written[text], text)
		written[text] = true
	}
}
