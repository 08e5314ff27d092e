package lab

import "testing"

func TestQuantile_Histogram_IsSpreadEvenlyInItsBucket(t *testing.T) {
	const metrics = `# TYPE x_seconds histogram
other_seconds_bucket{le="1"} 100
x_seconds_bucket{le="0.001"} 0
x_seconds_bucket{le="0.005"} 40
x_seconds_bucket{le="0.01"} 80
x_seconds_bucket{le="+Inf"} 100
x_seconds_sum 1
`
	all, total, err := Buckets(metrics, "x_seconds")
	if err != nil || total != 100 || len(all) != 3 {
		t.Fatalf("got %v %v %v, want three buckets of 100 samples", all, total, err)
	}
	for q, want := range map[float64]float64{0.2: 0.003, 0.6: 0.0075, 0.99: 0.01} {
		if got := Quantile(all, total, q); got < want*0.999 || got > want*1.001 {
			t.Errorf("%g: got %g, want %g", q, got, want)
		}
	}
	if _, _, err := Buckets(metrics, "y_seconds"); err == nil {
		t.Error("a metric that is not there: got no error")
	}
}
