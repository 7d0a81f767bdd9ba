package server

// Open is the number of client connections that the server counts against Limits.Connections.
func (s *Server) Open() int64 { return s.open.Load() }

// AdminUsers is the bound of one look-up.
const AdminUsers = adminUsers

// AdminConns is how many admin connections may be open.
const AdminConns = adminConns

// AdminOpen is how many are, and the one that Accept may be waiting for.
func (s *Server) AdminOpen() int { return len(s.admin.ln.(*boundedListener).places) }

// Refusals is how many refused connections wait for their peer, and how many may.
func (s *Server) Refusals() (now, most int64) { return s.refusals.Load(), maxRefusals }
