package build

import "sync"

// Slots numbers the jobs of one runner token that run at the same time:
// CI_CONCURRENT_ID among all of them, CI_CONCURRENT_PROJECT_ID among those of
// one project. Each number is the smallest that is free, so that directories
// are used again. The zero value is ready.
type Slots struct {
	mu       sync.Mutex
	all      map[int]bool
	projects map[int64]map[int]bool
}

// Take returns the numbers for a job of project and the function that gives
// them back.
func (s *Slots) Take(project int64) (id, projectID int, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all, s.projects = map[int]bool{}, map[int64]map[int]bool{}
	}
	own := s.projects[project]
	if own == nil {
		own = map[int]bool{}
		s.projects[project] = own
	}
	id, projectID = smallest(s.all), smallest(own)
	var once sync.Once
	return id, projectID, func() {
		once.Do(func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.all, id)
			delete(own, projectID)
			if len(own) == 0 {
				delete(s.projects, project)
			}
		})
	}
}

func smallest(taken map[int]bool) int {
	n := 0
	for taken[n] {
		n++
	}
	taken[n] = true
	return n
}
