// Package registrator keeps a program registered in Consul while it serves,
// and takes it away in the right order when it stops, so that load balancers
// that follow Consul lose no request.
//
//	reg, err := registrator.New(registrator.Config{
//		Service: "api", Port: 4000, Version: "1.1",
//		Checks: []registrator.Check{{HTTP: "http://127.0.0.1:4000/healthz"}},
//	})
//	…                             // listen, and be ready to serve
//	err = reg.Register(ctx)       // from here on there is traffic
//	<-sigterm
//	err = reg.Leave(ctx, server.Shutdown)
//
// Its invariants: the service is registered with its checks in one call and
// passing, so that no watcher ever sees it critical before it has failed; once
// leaving has begun nothing registers it again or takes the mark away; and the
// program is stopped and Leave returns, whatever Consul does.
//
// It is a public library. Of this project it imports registrator/contract only.
package registrator
