package daemon

import (
	"cmp"
	"net/url"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/pointsman/pointsman/sidecar/internal/trace"
)

// newTraces is what sends traces, by OpenTelemetry's own variables; nil where they name no
// collector. They may be set for the whole machine, so an error in them is logged, and no
// reason not to start.
func newTraces(environ []string, version, loadBalancer string, log hclog.Logger) *trace.Exporter {
	set := map[string]string{}
	for _, v := range environ {
		if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			set[name] = value
		}
	}
	variable := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	to := set[variable]
	if to == "" {
		variable = "OTEL_EXPORTER_OTLP_ENDPOINT"
		if to = set[variable]; to != "" {
			to = strings.TrimSuffix(to, "/") + "/v1/traces"
		}
	}
	if to == "" || strings.EqualFold(set["OTEL_SDK_DISABLED"], "true") || cmp.Or(set["OTEL_TRACES_EXPORTER"], "otlp") != "otlp" {
		return nil
	}
	if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		log.Warn("no tracing: want a URL with http or https", "variable", variable)
		return nil
	}
	if p := cmp.Or(set["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"], set["OTEL_EXPORTER_OTLP_PROTOCOL"]); p == "grpc" {
		log.Warn("no tracing: want OTEL_EXPORTER_OTLP_PROTOCOL=http/json, grpc is not supported")
		return nil
	}
	return trace.New(trace.Options{
		URL: to, Headers: otelHeaders(cmp.Or(set["OTEL_EXPORTER_OTLP_TRACES_HEADERS"], set["OTEL_EXPORTER_OTLP_HEADERS"])),
		Service: cmp.Or(set["OTEL_SERVICE_NAME"], "pointsman"), LoadBalancer: loadBalancer, Version: version, Logger: log,
	})
}

// otelHeaders reads NAME=VALUE,NAME=VALUE, with values as in a URL.
func otelHeaders(text string) map[string]string {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, isPair := strings.Cut(strings.TrimSpace(pair), "=")
		if plain, err := url.PathUnescape(strings.TrimSpace(value)); isPair && err == nil {
			headers[strings.TrimSpace(name)] = plain
		}
	}
	return headers
}
