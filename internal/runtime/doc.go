// Package runtime is one running mesh: it joins configuration sources, endpoint registry, engine and
// connections, and ends them together. Package mesh is its public face. Layer L7.
package runtime
