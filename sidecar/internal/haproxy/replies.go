package haproxy

import (
	"fmt"
	"strconv"
	"strings"
)

// splitReplies cuts what one line of commands brought into one reply for each:
// an empty line ends a reply (management manual 9.3). complete is false if
// something follows the last empty line, which is what a broken connection
// leaves, and what 2.6 leaves after the replies that miss theirs.
func splitReplies(text string) (replies []string, complete bool) {
	start := 0
	for at := 0; at < len(text); {
		end := strings.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		if end == 0 {
			replies = append(replies, text[start:at])
			start = at + 1
		}
		at += end + 1
	}
	return replies, start == len(text)
}

// errCutOff: the answer ends before its end.
var errCutOff = fmt.Errorf("%w: cut off", ErrUnexpectedReply)

// eachReply is splitReplies for a line of n commands. Where the number does
// not fit, no reply can be told to belong to any command. The error wraps
// errCutOff where there are fewer.
func eachReply(text string, n int) ([]string, error) {
	replies, complete := splitReplies(text)
	if len(replies) < n {
		return nil, fmt.Errorf("%w: %d complete replies to %d commands: %s", errCutOff, len(replies), n, excerpt(text))
	}
	if !complete || len(replies) != n {
		return nil, fmt.Errorf("%w: %d complete replies to %d commands: %s", ErrUnexpectedReply, len(replies), n, excerpt(text))
	}
	return replies, nil
}

// maxExcerpt is how much of a reply an error carries.
const maxExcerpt = 200

// excerpt quotes the beginning of a reply for an error.
func excerpt(reply string) string {
	reply = strings.TrimSpace(reply)
	if len(reply) <= maxExcerpt {
		return strconv.Quote(reply)
	}
	return strconv.Quote(reply[:maxExcerpt]) + "…"
}
