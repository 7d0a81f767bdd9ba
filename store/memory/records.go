package memory

import (
	"bytes"
	"maps"
	"slices"

	"gannet/store"
)

// Put is store.Store's.
func (s *Store) Put(records []store.Record, _ bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for i := range records {
		if err := records[i].Check(); err != nil {
			return err
		}
	}
	for _, r := range records {
		of := s.records[r.Owner]
		switch {
		case r.Value == nil:
			if delete(of, r.Key); len(of) == 0 {
				delete(s.records, r.Owner)
			}
			continue
		case of == nil:
			of = map[string][]byte{}
			s.records[r.Owner] = of
		}
		of[r.Key] = append([]byte{}, r.Value...)
	}
	return nil
}

// Get is store.Store's.
func (s *Store) Get(owner, key string) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return bytes.Clone(s.records[owner][key]), nil
}

// Scan is store.Store's.
func (s *Store) Scan(owner, after string, limit int) (found []store.Record, err error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	of := s.records[owner]
	for _, key := range slices.Sorted(maps.Keys(of)) {
		if key > after && len(found) < limit {
			found = append(found, store.Record{Owner: owner, Key: key, Value: bytes.Clone(of[key])})
		}
	}
	return found, nil
}
