package haproxy

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkParse reads HAProxy's replies about one backend.
func BenchmarkParse(b *testing.B) {
	header, rest, _ := strings.Cut(seedState, "\n3 ")
	row, _, _ := strings.Cut(rest, "\n")
	statHeader, statRest, _ := strings.Cut(seedStat, "\nb,")
	statRow, _, _ := strings.Cut(statRest, "\n")
	for _, n := range []int{10, 10_000} {
		state, stat := header+"\n", statHeader+"\n"
		var states, stats strings.Builder
		for i := range n {
			states.WriteString(strings.Replace("3 "+row+"\n", " s1 ", fmt.Sprintf(" s%d ", i), 1))
			stats.WriteString(strings.Replace("b,"+statRow+"\n", ",s1,", fmt.Sprintf(",s%d,", i), 1))
		}
		state, stat = state+states.String(), stat+stats.String()
		b.Run(fmt.Sprintf("show servers state, %d servers", n), func(b *testing.B) {
			b.SetBytes(int64(len(state)))
			b.ReportAllocs()
			for b.Loop() {
				if servers, _, err := parseServersState(state); err != nil || len(servers) != n {
					b.Fatalf("got %d servers, %v", len(servers), err)
				}
			}
		})
		b.Run(fmt.Sprintf("show stat, %d servers", n), func(b *testing.B) {
			b.SetBytes(int64(len(stat)))
			b.ReportAllocs()
			for b.Loop() {
				if servers, err := parseStat(stat); err != nil || len(servers.all) != n {
					b.Fatalf("got %d servers, %v", len(servers.all), err)
				}
			}
		})
	}
}
