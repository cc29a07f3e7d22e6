package main

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

type vlEngine struct {
	s    *logstorage.Storage
	last int64
}

func init() { engines["victorialogs"] = &vlEngine{} }

func (p *vlEngine) open(dir string) {
	_ = flag.Set("memory.allowedBytes", "128MiB")
	_ = flag.Set("loggerLevel", "ERROR")
	p.s = logstorage.MustOpenStorage(dir, &logstorage.StorageConfig{Retention: 36500 * 24 * time.Hour, FutureRetention: 36500 * 24 * time.Hour, FlushInterval: 2 * time.Second})
}
func (p *vlEngine) add(batch []span) {
	lr := logstorage.GetLogRows(nil, nil, nil, nil, "")
	for i := range batch {
		s := &batch[i]
		f := []logstorage.Field{{"service", s.Service}, {"namespace", s.Namespace}, {"trace", hex.EncodeToString(s.Trace[:])}, {"id", hex.EncodeToString(s.ID[:])},
			{"parent", hex.EncodeToString(s.Parent[:])}, {"pod", s.Pod}, {"node", s.Node}, {"kind", s.Kind}, {"name", s.Name}, {"status", s.Status}, {"route", s.Route}, {"ip", s.IP},
			{"code", strconv.FormatInt(s.Code, 10)}, {"message", s.Message}, {"duration", strconv.FormatInt(s.Duration, 10)}}
		lr.MustAdd(logstorage.TenantID{}, s.Time, f, 1)
		if lr.NeedFlush() {
			p.s.MustAddRows(lr)
			lr.ResetKeepSettings()
		}
	}
	p.s.MustAddRows(lr)
	logstorage.PutLogRows(lr)
}
func (p *vlEngine) close() { p.s.MustClose() }
func (p *vlEngine) run(text string) int {
	q, err := logstorage.ParseQuery(text)
	if err != nil {
		log.Fatal(err)
	}
	var n atomic.Int64
	err = p.s.RunQuery(logstorage.NewQueryContext(context.Background(), &logstorage.QueryStats{}, []logstorage.TenantID{{}}, q, false, nil), func(_ uint, db *logstorage.DataBlock) {
		n.Add(int64(db.RowsCount()))
	})
	if err != nil {
		log.Fatal(err)
	}
	return int(n.Load())
}
func (p *vlEngine) byTrace(id [16]byte) int { return p.run("trace:=" + hex.EncodeToString(id[:])) }
func between(from, to int64) string {
	return fmt.Sprintf("_time:[%s,%s) ", time.Unix(0, from).UTC().Format(time.RFC3339Nano), time.Unix(0, to).UTC().Format(time.RFC3339Nano))
}
func (p *vlEngine) errorsOf(service string, from, to int64) int {
	return p.run(between(from, to) + `{service="` + service + `"} status:=error`)
}
func (p *vlEngine) slowest(service string, from, to int64, limit int) []int64 {
	return make([]int64, p.run(between(from, to)+`{service="`+service+`"} | sort by (duration desc) limit 20`))
}
func (p *vlEngine) heat(from, to int64) int {
	return p.run(between(from, to) + `* | stats by (_time:15m, duration:10000000) count() n`)
}
func (p *vlEngine) countBy(from, to int64) int {
	return p.run(between(from, to) + `* | stats by (service, name) count() n`)
}
