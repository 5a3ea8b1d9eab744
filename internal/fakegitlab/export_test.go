package fakegitlab

// ParseContentRange gives the fuzz target of the external tests its subject.
var ParseContentRange = parseContentRange

// MustEnqueue is Enqueue for jobs that can always be added.
func (s *Server) MustEnqueue(spec Job) int64 {
	id, err := s.Enqueue(spec)
	if err != nil {
		panic(err)
	}
	return id
}
