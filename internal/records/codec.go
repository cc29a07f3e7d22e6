package records

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	// windowSize is as large as a page. The library's codec has one of eight times that, and each of its encoders holds twice its window.
	windowSize = 1 << 20
	// encoders is how many pages are compressed at a time.
	encoders = 2
)

// pageCodec is the library's codec, but for smaller encoders.
type pageCodec struct {
	parquetzstd.Codec
	encoder func() (*zstd.Encoder, error)
}

// codec is shared by all files, so that its encoders are.
var codec = &pageCodec{encoder: sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(encoders), zstd.WithWindowSize(windowSize), zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
})}

// Encode implements compress.Codec.
func (c *pageCodec) Encode(dst, src []byte) ([]byte, error) {
	encoder, err := c.encoder()
	if err != nil {
		return nil, fmt.Errorf("making an encoder: %w", err)
	}
	return encoder.EncodeAll(src, dst[:0]), nil
}
