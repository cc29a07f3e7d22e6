// Package victorialogs keeps records in a VictoriaLogs: it writes them with its documented API for JSON lines, and reads them with LogsQL.
package victorialogs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/records"
)

const (
	// fieldKind is the field of the log stream that has the kind of the records.
	fieldKind = "nephilia"
	// sendEvery is how often records are sent, or when there are so many bytes of them; maxWaiting are those that may wait.
	sendEvery  = time.Second
	sendBytes  = 1 << 20
	maxWaiting = 64 << 20
	// closing bounds how long the last records may take, sending how long others.
	closing = 5 * time.Second
	sending = 30 * time.Second
)

// DropRejected is why records are dropped that the server takes for wrong.
const DropRejected = "rejected"

// Settings say where the server is.
type Settings struct {
	Client *http.Client
	// Endpoint is the server's, such as http://localhost:9428.
	Endpoint string
	Logger   *zap.Logger
}

// Table is the records of a kind. It is a records.Keeper.
type Table struct {
	kind     records.Kind
	settings Settings
	newest   atomic.Int64

	mu      sync.Mutex
	waiting []byte // bounded by maxWaiting
	rows    int    // of those
	counts
	wake chan struct{}

	stop context.CancelFunc
	done sync.WaitGroup
}

type counts struct {
	written uint64
	dropped map[string]uint64 // bounded by the reasons
	failing bool
}

// Open returns the records of a kind, and sends those that are appended until it is closed.
func Open(settings Settings, kind records.Kind) *Table {
	ctx, stop := context.WithCancel(context.Background())
	t := &Table{kind: kind, settings: settings, counts: counts{dropped: map[string]uint64{}}, wake: make(chan struct{}, 1), stop: stop}
	t.done.Go(func() {
		ticker := time.NewTicker(sendEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-t.wake:
			}
			sendCtx, cancel := context.WithTimeout(ctx, sending)
			_ = t.send(sendCtx)
			cancel()
		}
	})
	return t
}

// Close sends what waits.
func (t *Table) Close() error {
	t.stop()
	t.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	return t.send(ctx)
}

// Append implements records.Keeper. A record that comes again is told from the first when it is read.
func (t *Table) Append(list []records.Record) (added int) {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	newest := t.newest.Load()
	for i := range list {
		r := &list[i]
		fields := map[string]string{"_time": time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano), "_msg": t.kind.Name, fieldKind: t.kind.Name}
		for _, f := range r.Fields {
			switch {
			case f.Number != 0:
				fields[f.Name] = strconv.FormatInt(f.Number, 10)
			case f.Text != "":
				fields[f.Name] = t.encoded(f.Name, f.Text)
			}
		}
		// A map of texts can be encoded.
		_ = encoder.Encode(fields)
		newest = max(newest, r.Time)
	}
	t.newest.Store(max(newest, t.newest.Load()))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting)+lines.Len() > maxWaiting {
		t.dropped[records.DropQueue] += uint64(len(list))
		return 0
	}
	t.waiting, t.rows = append(t.waiting, lines.Bytes()...), t.rows+len(list)
	if len(t.waiting) > sendBytes {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return len(list)
}

// encoded is a value as it is stored: what is no text in hex.
func (t *Table) encoded(field, value string) string {
	if slices.Contains(t.kind.Binary, field) {
		return hex.EncodeToString([]byte(value))
	}
	return value
}

// send writes what waits. What fails is tried again.
func (t *Table) send(ctx context.Context) error {
	t.mu.Lock()
	batch, rows := t.waiting, t.rows
	t.waiting, t.rows = nil, 0
	t.mu.Unlock()
	if rows == 0 {
		return nil
	}
	body, err := t.post(ctx, "/insert/jsonline", url.Values{"_stream_fields": {fieldKind}}, "application/stream+json", bytes.NewReader(batch))
	if err == nil {
		err = body.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var refused *statusError
	switch {
	case err == nil:
		t.written += uint64(rows)
		if t.failing {
			t.settings.Logger.Info("Records are written again", zap.String("kind", t.kind.Name))
		}
		t.failing = false
		return nil
	case errors.As(err, &refused) && refused.code == http.StatusBadRequest:
		t.dropped[DropRejected] += uint64(rows)
	case len(batch)+len(t.waiting) > maxWaiting:
		t.dropped[records.DropQueue] += uint64(rows)
	default:
		t.waiting, t.rows = append(batch, t.waiting...), t.rows+rows
	}
	if !t.failing {
		t.settings.Logger.Error("Records cannot be written", zap.String("kind", t.kind.Name), zap.Error(err))
	}
	t.failing = true
	return err
}

// statusError is an answer that is none.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("it answers %d: %s", e.code, e.text) }

// post asks the server; the caller closes the answer's body.
func (t *Table) post(ctx context.Context, path string, args url.Values, contentType string, body io.Reader) (io.ReadCloser, error) {
	address := t.settings.Endpoint + path
	if args != nil {
		address += "?" + args.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return nil, fmt.Errorf("asking VictoriaLogs: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := t.settings.Client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking VictoriaLogs: %w", err)
	}
	if response.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		_ = response.Body.Close()
		return nil, fmt.Errorf("asking VictoriaLogs: %w", &statusError{response.StatusCode, string(text)})
	}
	return response.Body, nil
}

// Count implements records.Keeper: how many there are is not known, and all that is asked for is read.
func (*Table) Count(*records.Query) int { return 0 }

// Newest implements records.Keeper: a record's number is its time.
func (t *Table) Newest() uint64 { return uint64(max(t.newest.Load(), 0)) }

// Status implements records.Keeper. Since when there are records is not known: the server decides.
func (t *Table) Status() records.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := records.Status{Kind: t.kind.Name, Records: t.written + uint64(t.rows), Dropped: map[string]uint64{}}
	for reason, n := range t.dropped {
		s.Dropped[reason] = n
	}
	return s
}
