package render_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/sidecar/internal/plan"
	"github.com/pointsman/pointsman/sidecar/internal/render"
	"github.com/pointsman/pointsman/templates"
)

// What is rendered in maintenance begins in maintenance, and changes no marker:
// to take a load balancer out of rotation must not need a reload.
func TestMaintenanceIsInTheFileAndNotInTheMarker(t *testing.T) {
	r := newRenderer(t, templates.HAProxy, settings(func(s *render.Settings) { s.HealthBind, s.HealthURI = "127.0.0.1:8405", "/" }))
	mark := func(file []byte) string {
		_, rest, _ := strings.Cut(string(file), plan.MarkerVariable)
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	var marks []string
	for _, on := range []bool{false, true} {
		got, err := r.Render(append(backends(server("api-1", "10.0.0.1:4000")), plan.RotationFile(on)))
		if err != nil {
			t.Fatal(err)
		}
		if plan.MaintenanceIn(string(got)) != on {
			t.Errorf("maintenance %v: the file says otherwise:\n%s", on, got)
		}
		haproxyAccepts(t, got)
		marks = append(marks, mark(got))
	}
	if marks[0] != marks[1] || marks[0] == "" {
		t.Errorf("markers: got %q, want the same", marks)
	}
}

func TestWithoutAHealthAnswerThereIsNoRotation(t *testing.T) {
	got, err := newRenderer(t, templates.HAProxy, settings()).Render(append(backends(), plan.RotationFile(true)))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "pointsman.rotation") {
		t.Errorf("got\n%s\nwant no health answer", got)
	}
}
