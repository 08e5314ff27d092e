package daemon

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestTracing_OpenTelemetrysVariables_SayWhetherAndWhere(t *testing.T) {
	const at = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
	for environ, c := range map[string]struct {
		isOn bool
		log  string
	}{
		"":                    {false, ""},
		"OTEL_SERVICE_NAME=x": {false, ""},
		at:                    {true, ""},
		at + "/":              {true, ""},
		at + " OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf":            {true, ""}, // a collector takes both
		at + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                     {false, "grpc is not supported"},
		at + " OTEL_SDK_DISABLED=true":                               {false, ""},
		at + " OTEL_TRACES_EXPORTER=none":                            {false, ""},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c.test/x/traces": {true, ""},
		"OTEL_EXPORTER_OTLP_ENDPOINT=secret:4317":                    {false, "variable=OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		var log bytes.Buffer
		e := newTraces(strings.Fields(environ), "test", "lb0", hclog.New(&hclog.LoggerOptions{Output: &log}))
		if (e != nil) != c.isOn || !strings.Contains(log.String(), c.log) || (c.log == "") != (log.Len() == 0) || strings.Contains(log.String(), "secret") {
			t.Errorf("%q: on %v, log %q; want %v, %q", environ, e != nil, log.String(), c.isOn, c.log)
		}
	}
	want := map[string]string{"Authorization": "Basic a b=", "X-Tenant": "1"}
	if got := otelHeaders("Authorization=Basic%20a%20b=, X-Tenant = 1,nonsense"); !maps.Equal(got, want) {
		t.Errorf("headers %v, want %v", got, want)
	}
}
