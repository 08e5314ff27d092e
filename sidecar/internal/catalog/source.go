package catalog

import "time"

// SourceHealth is how the queries of one service go.
type SourceHealth struct {
	Answered time.Time // the last successful answer; zero before the first
	Changed  time.Time // when the answer last differed from the one before it
	Err      error     // of the last query, nil if it succeeded
}
