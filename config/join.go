package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"sync"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// Options says how documents are taken.
type Options struct {
	Workload snapshot.Workload
	// AccessLog is the program's own access log, before MeshConfig's accessLogFile. Default: what that says.
	AccessLog LogSettings
	// Preset is what counts where documents say nothing. Default: NoPreset.
	Preset Preset
	// Strict refuses a set for every warning and every dangling reference too.
	Strict bool
	// IgnoredKinds are taken out of every set, with one line of information for each document. It is the
	// way to load policies that this version cannot enforce.
	IgnoredKinds []string
	// Authorizers names those of the program that CUSTOM policies can ask, and GRPCAuthorizers says that it can ask
	// providers of envoyExtAuthzGrpc: for the findings about policies that name others. Default: none.
	Authorizers     []string
	GRPCAuthorizers bool
	// Collectors says that the program can send spans to providers of documents: for the findings about them. Default: it
	// cannot.
	Collectors bool
	// Report is called after every transaction with the state that it led to, in their order, one call at a
	// time and without a lock held. After the first it is called before Ready is closed; for a later one it
	// may still be under way when the source has its verdicts. Default: nobody is told.
	Report func(Status)
}

// A Joined makes one source of snapshots out of any number of document sources. It keeps what it decoded
// and, when an update is refused, what it served. It is safe for concurrent use.
type Joined struct {
	opts      Options
	endpoints discovery.Publisher
	sources   []Source

	ready chan struct{} // closed after the first transaction

	mu       sync.Mutex // guards what follows, and makes updates one at a time
	held     []map[Key]*heldDocument
	arrived  uint64 // documents of partial updates
	version  uint64
	compiles int
	decodes  int
	// references are the findings of the last compilation. A change of endpoints alone does not renew them.
	references []Finding
	sets       map[discovery.Key]*discovery.Set
	status     Status
	unreported []Status
	reporting  bool // somebody is at it
}

// A heldDocument is one document as it was taken. It is not changed.
type heldDocument struct {
	doc      *document
	version  string
	order    uint64    // in its source: the place in the last full update, or of arrival
	findings []Finding // of the document alone
}

// Status says what is served and what was last refused.
type Status struct {
	Version   string    // of the snapshot that serves, "" before the first
	Preset    Preset    // Options.Preset
	Documents int       // in it
	Findings  []Finding // about it
	// Refused is why the newest update was not taken; nil where it was.
	Refused *ConfigError
}

// Join makes the source. The publisher, a *discovery.Registry or a *discovery.DNS before one, receives the
// endpoints that documents declare.
func Join(opts Options, endpoints discovery.Publisher, sources ...Source) *Joined {
	if opts.Workload.Namespace == "" {
		opts.Workload.Namespace = "default"
	}
	if opts.Workload.ServiceAccount == "" {
		opts.Workload.ServiceAccount = "default"
	}
	return &Joined{opts: opts, endpoints: endpoints, sources: sources,
		status: Status{Preset: opts.Preset}, ready: make(chan struct{}), held: make([]map[Key]*heldDocument, len(sources))}
}

// Ready is closed when every source's first update is live or refused; Status says which.
func (j *Joined) Ready() <-chan struct{} { return j.ready }

// Status gives the state at this moment.
func (j *Joined) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status
}

// Compiles counts how often documents were compiled to a snapshot. Changes of endpoints alone do not.
func (j *Joined) Compiles() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compiles
}

// Decodes counts how many documents were decoded: those that were new or had changed.
func (j *Joined) Decodes() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.decodes
}

// Run implements snapshot.Source. The first updates of all sources make one transaction, so that none is
// judged without what another brings; a source that ends without an update brings nothing. Run returns
// when every source has, with their errors joined. It is called once, with at least one source.
func (j *Joined) Run(ctx context.Context, publish func(context.Context, *snapshot.Snapshot) error) error {
	first := newGathering(len(j.sources), func(changes []change) [][]Verdict {
		defer close(j.ready)
		return j.begin(ctx, changes, publish)
	})
	errs := make([]error, len(j.sources))
	var wg sync.WaitGroup
	for i, s := range j.sources {
		wg.Go(func() {
			arrived := false
			errs[i] = s.Run(ctx, func(u Update) []Verdict {
				if !arrived {
					arrived = true
					return first.bring(&change{i, u})
				}
				return j.transact(ctx, []change{{i, u}}, publish)[0]
			})
			if !arrived {
				first.bring(nil)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

type change struct {
	source int
	update Update
}

// begin is transact for the first updates: where they are refused, what Keepers have is taken. The verdicts are about the former.
func (j *Joined) begin(ctx context.Context, changes []change, publish func(context.Context, *snapshot.Snapshot) error) [][]Verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	verdicts := j.take(ctx, changes, publish)
	if refused := j.status.Refused; refused != nil {
		if kept := j.kept(changes, refused); kept != nil {
			j.take(ctx, kept, publish)
			j.status.Refused = refused
		}
	}
	j.told()
	return verdicts
}

// kept gives the changes with what Keepers have, nil where none has anything.
func (j *Joined) kept(changes []change, refused *ConfigError) []change {
	var kept []change
	for i, c := range changes {
		k, ok := j.sources[c.source].(Keeper)
		if !ok {
			continue
		}
		if u, ok := k.Kept(refused); ok {
			if kept == nil {
				kept = slices.Clone(changes)
			}
			kept[i].update = u
		}
	}
	return kept
}

// transact makes one transaction of the changes and reports what came of it.
func (j *Joined) transact(ctx context.Context, changes []change, publish func(context.Context, *snapshot.Snapshot) error) [][]Verdict {
	j.mu.Lock()
	defer j.mu.Unlock()
	verdicts := j.take(ctx, changes, publish)
	for _, c := range changes {
		if c.update.taken != nil {
			c.update.taken()
		}
	}
	j.told()
	return verdicts
}

// told has the status reported. j.mu is held.
func (j *Joined) told() {
	if j.opts.Report != nil {
		j.unreported = append(j.unreported, j.status)
		j.report()
	}
}

// report says what has not been reported yet, unless somebody does already. The lock is let go meanwhile.
func (j *Joined) report() {
	if j.reporting {
		return
	}
	j.reporting = true
	for len(j.unreported) > 0 {
		s := j.unreported[0]
		j.unreported = j.unreported[1:]
		j.mu.Unlock()
		j.opts.Report(s)
		j.mu.Lock()
	}
	j.reporting = false
}

// take makes the changes live together, or none of them: decode and validate what is new, check the set,
// compile, publish. Everything before publish works on copies.
func (j *Joined) take(ctx context.Context, changes []change, publish func(context.Context, *snapshot.Snapshot) error) [][]Verdict {
	next := slices.Clone(j.held)
	verdicts := make([][]Verdict, len(changes))
	var findings []Finding
	for i, c := range changes {
		held, v, f := j.change(next[c.source], c.update)
		next[c.source], verdicts[i] = held, v
		findings = append(findings, f...)
	}
	docs, more := j.documents(next)
	findings = append(findings, more...)

	result := compiled{findings: j.references}
	if !j.refuses(findings) {
		if j.status.Version == "" || !onlyEndpoints(j.held, next) {
			result = compileSet(docs, &j.opts)
			j.compiles++
		}
		findings = append(findings, result.findings...)
	}
	if j.refuses(findings) {
		return j.refuse(findings, verdicts)
	}
	if err := j.publish(ctx, docs, result.snapshot, publish); err != nil {
		return j.refuse([]Finding{{Code: codePublish, Level: Error, Refused: true,
			Message: "the snapshot could not be made live: " + err.Error()}}, verdicts)
	}
	j.held, j.references = next, result.findings
	j.status = Status{Version: j.status.Version, Preset: j.opts.Preset, Documents: len(docs), Findings: findings}
	if result.snapshot != nil {
		j.status.Version = result.snapshot.Version
	}
	return verdicts
}

// change applies one source's update to what is held of it. In a full update a document that is refused
// refuses all; in a partial one it is left out alone, and its last good version stays.
func (j *Joined) change(old map[Key]*heldDocument, u Update) (map[Key]*heldDocument, []Verdict, []Finding) {
	next := make(map[Key]*heldDocument, len(old)+len(u.Upsert))
	if !u.Full {
		maps.Copy(next, old)
	}
	for _, k := range u.Remove {
		delete(next, k)
	}
	findings := slices.Clone(u.Findings)
	verdicts := make([]Verdict, 0, len(u.Upsert))
	for i := range u.Upsert {
		r := &u.Upsert[i]
		h := old[r.Key]
		if h == nil || h.version != r.Version || r.Version == "" {
			h = j.decode(r)
			j.arrived++
			h.order = j.arrived
		}
		if u.Full && h.order != uint64(i) {
			moved := *h
			moved.order = uint64(i)
			h = &moved
		}
		bad := j.refuses(h.findings)
		verdicts = append(verdicts, Verdict{Key: r.Key, Accepted: !bad, Findings: h.findings})
		if bad && !u.Full {
			continue
		}
		if bad || h.doc == nil {
			findings = append(findings, h.findings...)
		}
		next[r.Key] = h
	}
	return next, verdicts, findings
}

func (j *Joined) decode(r *Resource) *heldDocument {
	j.decodes++
	h := &heldDocument{version: r.Version}
	d, findings := r.parsed()
	h.findings = findings
	if d == nil || refusing(findings) {
		return h
	}
	defer d.settle()
	if !r.Created.IsZero() {
		d.created = r.Created
	}
	h.doc = d
	if slices.Contains(j.opts.IgnoredKinds, d.kind()) {
		h.findings = append(h.findings, d.finding(Info, codeSkipped, false, []any{"kind"}, d.key.String()+" ignored, as asked for", ""))
		return h
	}
	switch kinds[d.kind()].state {
	case kindRestricting:
		h.findings = append(h.findings, d.finding(Error, codeRestricts, true, []any{"kind"},
			d.key.Kind+" restricts traffic, and this version cannot enforce it",
			"name the kind in WithIgnoredKinds or --ignore-kind where running without it is acceptable"))
	case kindAdditive:
		if path := d.installsPolicy(); path != nil {
			h.findings = append(h.findings, d.finding(Error, codeRestricts, true, path,
				"an outbound traffic policy for the mesh, which is not read from an "+d.key.Kind,
				"write it in a MeshConfig document, and name the kind in WithIgnoredKinds or --ignore-kind"))
			break
		}
		h.findings = append(h.findings, d.finding(Warning, codeNotServed, false, []any{"kind"},
			d.key.Kind+" has no effect in this version", ""))
	default:
		h.findings = append(h.findings, d.judge()...)
	}
	return h
}

// installsPolicy finds what restricts in a document of how Istio is installed: REGISTRY_ONLY, which is what a policy
// without a mode says too. It gives nil where there is none.
func (d *document) installsPolicy() []any {
	path := []any{"spec", "meshConfig", "outboundTrafficPolicy"}
	if d.key.Kind != "IstioOperator" || !d.has(path) {
		return nil
	}
	if _, policy, _ := d.find(path); policy.Tag == "!!null" {
		return nil
	}
	if _, mode, ok := d.find(at(path, "mode")); ok && mode.Value == "ALLOW_ANY" {
		return nil
	}
	return path
}

// forTheMesh takes the edge off what is not built yet where it is not asked for here: a VirtualService that
// binds gateways only has no rule for the mesh's own calls.
func forTheMesh(d *document, findings []Finding) []Finding {
	v, ok := d.spec.(*networking.VirtualService)
	if !ok || bindsMesh(v.GetGateways()) {
		return findings
	}
	for i := range findings {
		if f := &findings[i]; f.Code == codeUnbuilt && f.Refused {
			f.Refused, f.Level = false, Warning
		}
	}
	return findings
}

// documents lists what all sources hold, source by source in order, and refuses a key that two of them have.
func (j *Joined) documents(held []map[Key]*heldDocument) (docs []*document, findings []Finding) {
	var all []*heldDocument
	for _, m := range held {
		from := len(all)
		for _, h := range m {
			if h.doc != nil {
				all = append(all, h)
			}
		}
		part := all[from:]
		sort.Slice(part, func(i, j int) bool { return part[i].order < part[j].order }) // not slices.SortFunc: 8 KB more of every program
	}
	seen := make(map[Key]*document, len(all))
	for _, h := range all {
		if first := seen[h.doc.key]; first != nil {
			findings = append(findings, h.doc.finding(Error, codeDuplicate, true, []any{"metadata", "name"},
				fmt.Sprintf("%s is in %s already", h.doc.key, first.place("metadata", "name")), "rename or remove one of them"))
			continue
		}
		seen[h.doc.key] = h.doc
		if !j.refuses(h.findings) {
			findings = append(findings, h.findings...)
		}
		docs = append(docs, h.doc)
	}
	return docs, findings
}

func (j *Joined) refuses(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Refused || j.opts.Strict && f.Level >= Warning
	})
}

func refusing(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Refused })
}

// refuse keeps what serves and says why. Every verdict of the transaction is a refusal.
func (j *Joined) refuse(findings []Finding, verdicts [][]Verdict) [][]Verdict {
	var why []Finding
	for _, f := range findings {
		if f.Refused || j.opts.Strict && f.Level >= Warning {
			f.Refused = true
			why = append(why, f)
		}
	}
	j.status.Refused = &ConfigError{Findings: why}
	for i, list := range verdicts {
		for k := range list {
			list[k].Accepted = false
		}
		verdicts[i] = append(list, Verdict{Findings: why})
	}
	return verdicts
}

// publish makes the endpoints known that are new or changed, then the snapshot, and then forgets the
// endpoints that nothing names any more.
func (j *Joined) publish(ctx context.Context, docs []*document, s *snapshot.Snapshot, publish func(context.Context, *snapshot.Snapshot) error) error {
	sets := endpointSets(docs, j.opts.Workload)
	// In one order: what subscribers draw at random must follow from the seed.
	var changing []discovery.Key
	for _, key := range discovery.SortedKeys(sets) {
		set, old := sets[key], j.sets[key]
		switch {
		case old.Equal(set):
			sets[key] = old
		case old == nil || s == nil:
			j.endpoints.Publish(key, set)
		default:
			// Calls of the old snapshot look for the old endpoints, those of the new for the new ones: until
			// the one has taken the other's place, both must find theirs.
			j.endpoints.Publish(key, discovery.Union(old, set))
			changing = append(changing, key)
		}
	}
	if s != nil {
		j.version++
		s.Version = strconv.FormatUint(j.version, 10)
		if err := publish(ctx, s); err != nil {
			return err
		}
	}
	for _, key := range changing {
		j.endpoints.Publish(key, sets[key])
	}
	for key := range j.sets {
		if sets[key] == nil {
			j.endpoints.Publish(key, nil)
		}
	}
	j.sets = sets
	return nil
}

// onlyEndpoints reports whether the two sets of documents differ at most in those that endpoints are made of.
func onlyEndpoints(old, next []map[Key]*heldDocument) bool {
	for i := range next {
		for k, h := range next[i] {
			if was := old[i][k]; !makesEndpoints(k.Kind) && (was == nil || was.doc != h.doc) {
				return false
			}
		}
		for k := range old[i] {
			if !makesEndpoints(k.Kind) && next[i][k] == nil {
				return false
			}
		}
	}
	return true
}
