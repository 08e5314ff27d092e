package metrics

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The name of a file in a directory of certificates may be any bytes.
func TestExpiries_NameThatIsNoText_IsALabelAllTheSame(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newExpiries(func() ([]Certificate, int) {
		return []Certificate{{Backend: "web", Name: "/certs/\xff.pem", NotAfter: time.Now()}}, 0
	}))
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}
