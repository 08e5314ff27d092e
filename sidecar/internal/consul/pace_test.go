package consul

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	// ask answers at once, for a time, and counts how often.
	ask := func(cost float64, during time.Duration) int {
		now := time.Unix(1_000_000, 0)
		end, p, n := now.Add(during), pace{}, 0
		for {
			now = now.Add(p.delay(now))
			if now.After(end) {
				return n
			}
			n++
			p.spend(now, cost)
		}
	}
	tests := map[string]struct {
		cost     float64
		during   time.Duration
		min, max int
	}{
		"news at once is a burst":                {costNews, 0, 40, 42},
		"news for 10 s is 20 a second after it":  {costNews, 10 * time.Second, 235, 245},
		"noise at once is a smaller burst":       {costNothing, 0, 10, 12},
		"noise for 10 s is 5 a second after it":  {costNothing, 10 * time.Second, 58, 63},
		"noise for a minute is 5 a second still": {costNothing, time.Minute, 305, 315},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ask(tc.cost, tc.during); got < tc.min || got > tc.max {
				t.Errorf("%d queries in %v, want %d to %d", got, tc.during, tc.min, tc.max)
			}
		})
	}
}

func TestPaceForgivesInQuietTimes(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var p pace
	for range 100 {
		p.spend(now, costNews)
	}
	if p.delay(now) == 0 {
		t.Fatal("no delay after 100 answers at once")
	}
	now = now.Add(5 * time.Second) // 100 tokens
	if got := p.delay(now); got != 0 {
		t.Errorf("delay after a quiet time = %v, want none", got)
	}
	if p.spent != 0 {
		t.Errorf("spent after a quiet time = %v, want 0", p.spent)
	}
}

func TestPaceWithAClockThatWentBack(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var p pace
	p.spend(now, costNews)
	if got := p.delay(now.Add(-time.Hour)); got != 0 || p.spent != costNews {
		t.Errorf("delay = %v and spent %v, want 0 and %v", got, p.spent, costNews)
	}
}
