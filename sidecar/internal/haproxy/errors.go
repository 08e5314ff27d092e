package haproxy

import "errors"

// Why HAProxy could not be asked. Each comes wrapped with the socket's place.
var (
	// ErrNoSocket: there is no such file.
	ErrNoSocket = errors.New("no such socket")
	// ErrConnRefused: the socket is there and no process listens on it.
	ErrConnRefused = errors.New("connection refused: no process listens there")
	// ErrPermission: this process may not open the socket.
	ErrPermission = errors.New("permission denied: this user may not open the socket (HAProxy sets who may: `stats socket … mode 660 group haproxy`, or `-S PATH,mode,660,group,haproxy` for the master socket)")
	// ErrNotAdmin: the socket is open to us and not at the level that changes need.
	ErrNotAdmin = errors.New("the socket is not at level admin (HAProxy's line needs `stats socket … level admin`)")
	// ErrNotMaster: what listens there is not a HAProxy master's socket.
	ErrNotMaster = errors.New("not a master's socket (HAProxy needs `-W` or `-Ws` with `-S`)")
	// ErrUnexpectedReply: an answer that is not among the known ones.
	ErrUnexpectedReply = errors.New("unexpected reply")
)
