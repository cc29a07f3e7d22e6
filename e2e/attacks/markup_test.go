package attacks

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestStoredMarkup has markup in every name that comes from outside, and opens the UI's pages in a real browser: none of it becomes an
// element, runs, or asks the attacker's server for anything. The chromium is NEPHILIA_CHROMIUM, or Debian's.
func TestStoredMarkup(t *testing.T) {
	browser := os.Getenv("NEPHILIA_CHROMIUM")
	if browser == "" {
		browser = "/usr/bin/chromium"
	}
	if _, err := os.Stat(browser); err != nil {
		t.Skipf("no browser: %v", err)
	}
	var asked atomic.Int64
	beacon := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer beacon.Close()
	markup := "<img src=" + beacon.URL + "/x onerror=document.title='PWNED'><script>document.title='PWNED'</script>"
	script := "javascript:document.title='PWNED'//"
	c := startCollector(t, "standalone.yaml", map[string]string{"K8S_NODE_NAME": markup})
	for i := range 25 {
		var text strings.Builder
		for k := range 6 {
			one := connection{source: markup, destination: script, namespace: markup}
			if i > 10 && k%2 == 0 {
				one.err = markup
			}
			text.WriteString(one.String())
		}
		c.write("0.log", text.String())
		now := time.Now()
		all := attributes(map[string]any{markup: markup, "http.route": script, "url.full": script})
		c.post("traces", object{"resourceSpans": []any{object{
			"resource": object{"attributes": attributes(map[string]any{"service.name": markup, "k8s.pod.name": script})},
			"scopeSpans": []any{object{"spans": []any{object{
				"traceId": strings.Repeat("ab", 16), "spanId": fmt.Sprintf("%016x", i+1), "name": markup, "kind": 2, "startTimeUnixNano": stamp(now.Add(-time.Second)), "endTimeUnixNano": stamp(now),
				"attributes": all, "status": object{"code": 2, "message": markup}, "events": []any{object{"name": markup, "timeUnixNano": stamp(now), "attributes": all}},
			}}}},
		}}})
		time.Sleep(time.Second)
	}
	var answer struct{ Outages []struct{ ID string } }
	c.get("/api/v1/outages", &answer)
	if len(answer.Outages) == 0 {
		t.Error("no outage has a name with markup")
	}
	named := url.PathEscape(markup)
	pages := []string{
		"/", "/graph", "/outages", "/flows", "/traces", "/traces/" + strings.Repeat("ab", 16), "/workloads", "/services", "/policies", "/nodes", "/changes", "/endpoints", "/findings",
		"/nodes/" + named, "/workloads/" + named + "/" + named, "/workloads/shop/" + url.PathEscape(script), "/traces?service=" + url.QueryEscape(markup), "/graph?q=" + url.QueryEscape(markup),
		"/?namespace=" + url.QueryEscape(markup), "/" + named,
	}
	for _, outage := range answer.Outages[:min(2, len(answer.Outages))] {
		pages = append(pages, "/outages/"+outage.ID)
	}
	told := 0
	tab := openTab(t, browser)
	for _, path := range pages {
		page := tab.open("http://" + c.env["NEPHILIA_API"] + path)
		if page.Title == "PWNED" || page.Elements > 0 || page.Dialogs > 0 {
			t.Errorf("%s: %+v", path, page)
		}
		if page.Text < 50 {
			t.Errorf("%s shows nothing", path)
		}
		if page.Shown {
			told++
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the attacker's server was asked %d times", asked.Load())
	}
	t.Logf("%d pages, of which %d show the markup as text", len(pages), told)
	if told < len(pages)/2 {
		t.Error("few pages show the names at all")
	}
}

// page is what has become of one that was opened.
type page struct {
	Title string
	// Elements are those that the markup would have made, Text is how many characters it shows.
	Elements, Text int
	// Shown is whether the markup is among them.
	Shown   bool
	Dialogs int
}

// look says so of the page that is open.
const look = `JSON.stringify({
	Title: document.title, Text: document.body.innerText.length,
	Elements: document.querySelectorAll('img[src^="http"], [onerror], a[href^="javascript:"], [src^="javascript:"]').length + [...document.scripts].filter((s) => s.textContent.includes('PWNED')).length,
	Shown: document.body.innerText.includes('<img src=') || document.body.innerText.includes('javascript:document'),
})`

// tab is a browser's, told what to do by its DevTools protocol: messages of JSON, each with a zero byte after it, through a pair of pipes.
type tab struct {
	t       *testing.T
	out     *os.File
	in      *bufio.Reader
	session string
	last    int
	dialogs int
}

func openTab(t *testing.T, browser string) *tab {
	t.Helper()
	childIn, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+filepath.Join(t.TempDir(), "profile"), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{childIn, childOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := &tab{t: t, out: out, in: bufio.NewReader(in)}
	t.Cleanup(func() {
		b.do("Browser.close", object{}, nil)
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // it was told to end
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill() // or it has ended
			<-ended
		}
		for _, file := range []*os.File{childIn, childOut, in, out} {
			_ = file.Close() // nobody is left to tell
		}
	})
	var target struct{ TargetID string }
	b.do("Target.createTarget", object{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.do("Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	b.do("Page.enable", object{}, nil)
	return b
}

// do has the browser do something and waits for its answer.
func (b *tab) do(method string, params object, result any) {
	b.t.Helper()
	b.last++
	message := object{"id": b.last, "method": method, "params": params}
	if b.session != "" && method != "Browser.close" {
		message["sessionId"] = b.session
	}
	encoded, err := json.Marshal(message)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(encoded, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		said, err := b.in.ReadBytes(0)
		if err != nil {
			if method != "Browser.close" {
				b.t.Fatalf("%s: %v", method, err)
			}
			return
		}
		var answer struct {
			ID     int
			Method string
			Result json.RawMessage
			Error  any
		}
		if err := json.Unmarshal(said[:len(said)-1], &answer); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		if answer.Method == "Page.javascriptDialogOpening" {
			b.dialogs++
		}
		if answer.ID != b.last {
			continue
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %v", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// open opens a page and looks at it once it has not changed for a while.
func (b *tab) open(address string) (found page) {
	b.t.Helper()
	b.dialogs = 0
	b.do("Page.navigate", object{"url": address}, nil)
	same := 0
	for deadline := time.Now().Add(time.Duration(20 * float64(time.Second) * *patience)); time.Now().Before(deadline) && same < 4; time.Sleep(300 * time.Millisecond) {
		var answer struct{ Result struct{ Value string } }
		b.do("Runtime.evaluate", object{"expression": look, "returnByValue": true}, &answer)
		var now page
		if err := json.Unmarshal([]byte(answer.Result.Value), &now); err != nil {
			continue // there is no document yet
		}
		same++
		if now.Text != found.Text || now.Text < 50 {
			same = 0
		}
		found = now
	}
	found.Dialogs = b.dialogs
	return found
}
