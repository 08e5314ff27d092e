package render_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/sidecar/internal/catalog"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// A pause comes into the file and into the map file, with the same marker: no reload. What
// starts with that file knows it until it is over.
func TestPauses_SetAndOver_InFileMapAndReadAgain(t *testing.T) {
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	r := newRenderer(t, templates.HAProxy, settings(func(s *render.Settings) {
		s.Pauses.Backends = map[string]string{"api_nodes": "api", "api_nodes.preview": "api", "old_nodes": "old"}
	}))
	of := map[string]catalog.Pause{
		"api": {Until: noon, ModifiedBy: "ann@ops1", Reason: "a\nbackend evil"},
		"old": {Refused: "no JSON"},
		"web": {Until: noon.Add(time.Minute)}, // cannot be paused here
	}
	with := r.WithPauses(of)
	if with.Marker() != r.Marker() {
		t.Error("a pause changes the marker, so HAProxy would be reloaded")
	}
	left, _, _, errLeft := r.Without("api_nodes", nil)
	leftWith, _, _, err := with.Without("api_nodes", nil)
	if err != nil || errLeft != nil || left.Marker() != leftWith.Marker() {
		t.Errorf("a pause changes the marker where a service is left out: %v, %v", err, errLeft)
	}
	content, err := with.Render(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	file, err := render.NewFile(path, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(t.Context(), content); err != nil {
		t.Fatal(err)
	}
	wantMap := render.Header + "\napi_nodes 1796040000000\napi_nodes.preview 1796040000000\n"
	if got, err := os.ReadFile(render.MapFile(path, render.PauseMap)); err != nil || string(got) != wantMap {
		t.Errorf("the map file has %q, %v, want %q", got, err, wantMap)
	}
	if bytes.Contains(content, []byte("\nbackend evil")) {
		t.Errorf("a text from Consul becomes a line of the file:\n%s", content)
	}
	delete(of, "old")
	delete(of, "web")
	if diff := cmp.Diff(of, render.PausesIn(content, noon.Add(-time.Second))); diff != "" {
		t.Errorf("read again, -want +got:\n%s", diff)
	}
	if got := render.PausesIn(content, noon.Add(time.Hour)); len(got) > 0 {
		t.Errorf("pauses that are over were read: %v", got)
	}
	if content, err = r.Render(nil); err != nil || strings.Contains(string(content), "#pause ") {
		t.Errorf("without pauses: %v\n%s", err, content)
	}
	if _, err := file.Write(t.Context(), content); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(render.MapFile(path, render.PauseMap)); err != nil || string(got) != render.Header+"\n" {
		t.Errorf("after the end the map file has %q, %v", got, err)
	}
}
