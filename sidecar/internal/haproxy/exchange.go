package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// maxReply bounds what one exchange may return: 10,000 servers are 3.2 MB of
// `show stat`.
const maxReply = 64 << 20

// errTooLong is a reply longer than maxReply.
var errTooLong = fmt.Errorf("reply longer than %d MB", maxReply>>20)

// exchange opens a connection, writes line and reads until the other side
// closes. halfClose tells the other side, once it has begun to answer, that no
// more comes: the master does not close by itself, and `wait` is interrupted by
// it (docs/haproxy-facts.md, facts 13 and 14). It must not be told before: a master of 3.0 to 3.4 that
// is asked for a worker it does not have then never closes the connection,
// one time in ten, and ten of them are all it takes.
func (c *Client) exchange(ctx context.Context, e endpoint, line string, halfClose bool, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.dial(ctx, e)
	if err != nil {
		return "", &dialFailure{err}
	}
	defer func() { _ = conn.Close() }() // all has been read, or has failed already

	// A deadline of the past ends every read and write at once; the context's
	// own deadline arrives the same way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	reply, err := writeAndRead(conn, line, halfClose, c.expected(line), strings.Contains(line, wholeStat))
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			err = fmt.Errorf("no complete reply within %s: %w", timeout, cause)
		}
		return reply, err
	}
	c.noteLarge(line, len(reply))
	return reply, nil
}

// largeReply is from how many bytes on the room for a reply is made at once, by how
// long it was the last time.
const largeReply = 256 << 10

// noteLarge remembers how long a reply was. Only the last large one counts: the
// comparison of everything has it, again and again.
func (c *Client) noteLarge(line string, bytes int) {
	if bytes < largeReply {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.large.line, c.large.bytes = line, bytes
}

// expected is about how long a reply will be, in bytes; 0: not known.
func (c *Client) expected(line string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.large.line != line {
		return 0
	}
	return c.large.bytes + c.large.bytes/32
}

// writeAndRead returns the reply, of which only the columns that are used are kept while it
// arrives if isFiltered is set: see tableFilter.
func writeAndRead(conn net.Conn, line string, halfClose bool, expected int, isFiltered bool) (string, error) {
	// The write's error waits: HAProxy may refuse a line, say why and close
	// before it has read all of it.
	_, writeErr := io.WriteString(conn, line+"\n")
	piece := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(piece)
	var plain strings.Builder
	var tables tableFilter
	reply, end := &plain, plain.String
	if isFiltered {
		reply, end = &tables.out, tables.end
	}
	for bytes := 0; ; {
		n, err := conn.Read(piece[:])
		if reply.Len() > 0 && reply.Cap()-reply.Len() < n {
			// By more than append would: large replies are copied less.
			reply.Grow(max(n, reply.Len(), min(expected, maxReply)-reply.Len()))
		}
		isFirst := bytes == 0
		if bytes += n; isFiltered {
			tables.take(piece[:n])
		} else {
			plain.Write(piece[:n])
		}
		switch {
		case bytes > maxReply:
			return "", errTooLong
		case errors.Is(err, io.EOF):
			return end(), writeErr
		case err != nil:
			return end(), errors.Join(writeErr, err)
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok && halfClose && isFirst {
			writeErr = errors.Join(writeErr, half.CloseWrite())
		}
	}
}

// pieces are what replies are read into.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

const pieceSize = 32 << 10 // bytes

// dialFailure marks an error from before anything was sent.
type dialFailure struct{ err error }

func (d *dialFailure) Error() string { return d.err.Error() }
func (d *dialFailure) Unwrap() error { return d.err }
