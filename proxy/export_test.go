package proxy

// WithMemory has the sidecar believe that so many bytes of MaxHeap are taken.
func (c *Config) WithMemory(used func() uint64) { c.memory = used }
