package cnilog_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/cnilog"
)

type agent struct{ cnilog.Pods }

func (a *agent) says(second int, text string, labels ...string) {
	record := plog.NewLogRecord()
	for i := 0; i+1 < len(labels); i += 2 {
		record.Attributes().PutStr("ztunnel.field."+labels[i], labels[i+1])
	}
	a.Take(record, text, at(second))
}

func (a *agent) waiting(second int) (names []string) {
	a.Waiting(at(second), func(namespace, name string, _ *cnilog.Pod) { names = append(names, namespace+"/"+name) })
	return names
}

func at(second int) pcommon.Timestamp {
	return pcommon.NewTimestampFromTime(time.Unix(1_700_000_000+int64(second), 0))
}

const partly = "failed to add pod to ztunnel: pod partially added, annotating with pending status"

func TestPodsThatAreNotHandedOver(t *testing.T) {
	pay := []string{"ns", "shop", "name", "pay-0"}
	var a agent
	a.says(0, "adding pod to the mesh", pay...)
	a.says(0, partly, pay...)
	a.says(0, "Unable to send pod to ztunnel. Will retry. AddPodToMesh returned: no ztunnel connection", pay...)
	assert.Empty(t, a.waiting(5), "a ztunnel that begins anew is away for as long")
	assert.Empty(t, a.Text("shop", "pay-0", at(5)))
	assert.Equal(t, []string{"shop/pay-0"}, a.waiting(12))
	assert.Equal(t, "Unable to send pod to ztunnel. Will retry. AddPodToMesh returned: no ztunnel connection", a.Text("shop", "pay-0", at(12)))

	a.says(60, "adding pod to the mesh", pay...)
	assert.Equal(t, []string{"shop/pay-0"}, a.waiting(61), "an attempt may take as long")
	a.says(62, partly, pay...)
	assert.Equal(t, []string{"shop/pay-0"}, a.waiting(300), "the agent tries less and less often")

	a.says(301, "sending pod to ztunnel as part of snapshot", "uid", "1", "name", "pay-0", "namespace", "shop", "serviceAccount", "pay")
	assert.Empty(t, a.waiting(310), "no failure follows")
	assert.Empty(t, a.Text("shop", "pay-0", at(310)))

	a.says(400, partly, pay...)
	assert.Empty(t, a.waiting(405), "another time begins anew")
	assert.Len(t, a.waiting(411), 1)
	a.says(412, "removing pod from mesh", pay...)
	assert.Empty(t, a.waiting(500))
}

func TestWhomALineIsAbout(t *testing.T) {
	for _, test := range []struct {
		text   string
		labels []string
		pod    string
	}{
		{"pod: shop/pay-0 was not enrolled and is unhealthy: no ztunnel connection", nil, "shop/pay-0"},
		{"pod: a/b/c was not enrolled and is unhealthy: x", nil, ""},
		{"failed to add workload: already exists", []string{"uid", "1", "name", "pay-0", "namespace", "shop"}, "shop/pay-0"},
		{"Failed capturing pod, will not retry. AddPodToMesh returned: pod add cannot be retried: x", []string{"ns", "shop", "name", "pay-0"}, "shop/pay-0"},
		{partly, nil, ""},
		{"ztunnel connection broken/unwritable, disposing of this connection", []string{"conn_uuid", "1"}, ""},
	} {
		var a agent
		a.says(0, test.text, test.labels...)
		var want []string
		if test.pod != "" {
			want = []string{test.pod}
		}
		assert.Equal(t, want, a.waiting(20), test.text)
	}
}

func TestPodsAreBounded(t *testing.T) {
	var a agent
	for i := range 3000 {
		a.says(0, partly, "ns", "shop", "name", "pod-"+time.Duration(i).String())
	}
	assert.Len(t, a.waiting(20), 1024)
}
