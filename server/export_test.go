package server

// Open is the number of client connections that the server counts against Limits.Connections.
func (s *Server) Open() int64 { return s.open.Load() }

// AdminUsers is the bound of one look-up.
const AdminUsers = adminUsers
