package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/lab"
)

// socket is a connection to HAProxy's runtime socket in interactive mode, which
// stays open between commands: the cheapest way to ask again and again. It
// belongs to the worker that accepted it, so it is of no use after a reload.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
}

const (
	prompt       = "> "
	socketLimit  = 10 * time.Second
	lineSize     = 14_000 // of a line that every version takes, without its end
	readerMemory = 1 << 16
)

func openSocket(ctx context.Context, path string) (*socket, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, in: bufio.NewReaderSize(conn, readerMemory)}
	if _, err := s.ask("prompt"); err != nil {
		_ = conn.Close() // the error says more
		return nil, err
	}
	return s, nil
}

func (s *socket) close() { _ = s.conn.Close() } // nothing is under way

// ask sends one line and returns the answer, without the prompt after it.
func (s *socket) ask(line string) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(socketLimit)); err != nil {
		return "", err
	}
	if _, err := s.conn.Write([]byte(line + "\n")); err != nil {
		return "", fmt.Errorf("runtime socket: %w", err)
	}
	var answer strings.Builder
	for {
		part, err := s.in.ReadString(prompt[0])
		answer.WriteString(part)
		if err != nil {
			return "", fmt.Errorf("runtime socket: %.40q: %w", line, err)
		}
		// The prompt stands at the beginning of a line and ends what HAProxy says.
		if text := answer.String(); text == prompt[:1] || strings.HasSuffix(text, "\n"+prompt[:1]) {
			next, err := s.in.Peek(1)
			if err != nil {
				return "", fmt.Errorf("runtime socket: %.40q: %w", line, err)
			}
			if next[0] == prompt[1] {
				_, err := s.in.Discard(1)
				return strings.TrimSuffix(text, prompt[:1]), err
			}
		}
	}
}

// weights returns the weights of servers, BACKEND/NAME.
func (s *socket) weights(servers []string) ([]int, error) {
	values := make([]int, 0, len(servers))
	for _, server := range servers {
		out, err := s.ask("get weight " + server)
		if err != nil {
			return nil, err
		}
		// 7 (initial 1)
		first, _, _ := strings.Cut(strings.TrimSpace(out), " ")
		weight, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("get weight %s: %.100q", server, out)
		}
		values = append(values, weight)
	}
	return values, nil
}

// up returns for each server, BACKEND/NAME, 1 if it takes traffic, else 0. All
// are of one backend.
func (s *socket) up(servers []string) ([]int, error) {
	backend, _, _ := strings.Cut(servers[0], "/")
	out, err := s.ask("show servers state " + backend)
	if err != nil {
		return nil, err
	}
	state, err := lab.ParseServersState(out)
	if err != nil {
		return nil, err
	}
	values := make([]int, len(servers))
	for i, server := range servers {
		for _, is := range state {
			if backend+"/"+is.Name == server && is.Up {
				values[i] = 1
			}
		}
	}
	return values, nil
}
