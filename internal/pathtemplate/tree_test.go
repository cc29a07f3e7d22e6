package pathtemplate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func add(into, from int) int { return into + from }

func newTree(most int) *Tree[int] { return New(Settings[int]{MaxTemplates: most, Merge: add}) }

func TestForms(t *testing.T) {
	for form, segments := range map[form]string{
		word: "products me users-list public_key findByTags oauth2 oauth2callback sha256 x509 ipv4 base64 top-10 chat.postMessage rbac.authorization.k8s.io " +
			"sitemap.xml @me $batch things:search networkpolicies resourceclaimtemplates bestellungen szczegoly warenkorb IpAccessControlListMappings v k8s s3",
		version: "v1 v2beta1 v1.56 V3 v1alpha3",
		value: "4711 -1 3.14 0815 1b4e28ba-2fa1-11d2-883f-0016d3cca427 5f2a9c01 507f1f77bcf86cd799439011 da39a3ee5e6b4b0d3255bfef95601890afd80709 2026-11-27 20261127T101500Z " +
			"cus_9s6XKzkNRiz8i3 cus_xkdnGATWDoQftW 7iHfbu1YPACw6oZPAFJtqe ann@example.com 10.0.0.7 fe80::1 caf%C3%A9 01ARZ3NDEKTSV4RRFFQ69G5FAV order-5f2a9c01 gtdw1ng6 " +
			"zmhbjqay obj_MOBkSjPgYApX46 obj_ELVEPOLKynWYkA 1,2,3 eyJhbGciOiJIUzI1NiJ9 pod-7f9c8d4b6-x2x9p",
	} {
		for segment := range strings.FieldsSeq(segments) {
			assert.Equal(t, form, formOf(segment), segment)
		}
	}
	assert.Equal(t, value, formOf(strings.Repeat("a", maxSegment+1)))
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ path, want string }{
		{"/", "/"},
		{"/products", "/products"},
		{"/products/", "/products/"},
		{"/products/4711", "/products/{id}"},
		{"/products/4711/reviews/12", "/products/{id}/reviews/{id}"},
		{"/2010-04-01/Accounts/AC5ef8732a3c49700934481addd5ce1659/Calls.json", "/2010-04-01/Accounts/{id}/Calls.json"},
		{"/2.0/users/4711", "/2.0/users/{id}"},
		{"/1.1/statuses/20.json", "/1.1/statuses/{id}.json"},
		{"/rest/api/2/issue/12", "/rest/api/2/issue/{id}"},
		{"/wiki/api/1.4.2/page", "/wiki/api/1.4.2/page"},
		{"/api/4711", "/api/{id}"},
		{"/12/boards", "/{id}/boards"},
		{"/10.0.0.7/status", "/{id}/status"},
		{"/files/4711.json", "/files/{id}.json"},
		{"/tasks/4711:cancel", "/tasks/{id}:cancel"},
		{"/shop.v1.Cart/Add", "/shop.v1.Cart/Add"},
		{"/api/v2/users/me", "/api/v2/users/me"},
		{"", "/"},
		{"//a", "//a"},
	} {
		assert.Equal(t, c.want, newTree(100).Find(c.path, false).Template(), c.path)
	}
}

func TestNamesThatVary(t *testing.T) {
	tree := newTree(1000)
	for i := range 300 {
		name := made(i)
		tree.Find("/users/"+name, false).Value++
		tree.Find("/users/"+name+"/orders", false).Value++
		tree.Find("/users/me", false).Value++
	}
	got := map[string]int{}
	tree.All(func(n *Node[int]) bool { got[n.Template()] = n.Value; return true })
	assert.Equal(t, map[string]int{"/users/me": 300, "/users/{id}": 300, "/users/{id}/orders": 300}, got, "no value is lost where templates merge")
}

func TestNamesThatStay(t *testing.T) {
	tree := newTree(1000)
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		// Resources that all have the same actions, methods in great number, and names in the root.
		tree.Find(fmt.Sprintf("/admin/%s/%s", made(random.IntN(14)), []string{"list", "create", "export"}[random.IntN(3)]), false)
		tree.Find(fmt.Sprintf("/api/%s.%s", made(random.IntN(20)), []string{"list", "info", "setTopic"}[random.IntN(3)]), false)
		tree.Find("/"+made(random.IntN(50)), false)
	}
	assert.Equal(t, 14*3+20*3+50, tree.Len())
}

func TestAValueBesideItsNames(t *testing.T) {
	tree := newTree(1000)
	tree.Find("/orders/4711/items", false)
	assert.Equal(t, "/orders/{id}/items", tree.Find("/orders/latest/items", false).Template())
	tree.Find("/carts/mine/items", false)
	tree.Find("/carts/4711/items", false)
	assert.Equal(t, "/carts/{id}/items", tree.Find("/carts/mine/items", false).Template())
	assert.Equal(t, 2, tree.Len())
}

func TestWhatNobodyHas(t *testing.T) {
	tree := newTree(100)
	tree.Find("/products/4711", false)
	for i := range 500 {
		tree.Find("/"+made(i)+".php", true)
	}
	assert.Equal(t, "/*", tree.Find("/.env", true).Template())
	assert.Equal(t, "/products/{id}", tree.Find("/products/9", true).Template())
	assert.Equal(t, 1, tree.Len())
}

func TestRoutes(t *testing.T) {
	for _, c := range []struct{ route, want string }{
		{"/owners/{ownerId}/pets/{petId:[0-9]}", "/owners/{ownerId}/pets/{petId}"},
		{"/owners/:owner", "/owners/{owner}"},
		{"/owners/<int:owner>/", "/owners/{owner}/"},
		{"/files/{name}.json", "/files/{name}.json"},
		{"/health", "/health"},
	} {
		assert.Equal(t, c.want, newTree(100).Declare(c.route).Template(), c.route)
	}
	for _, none := range []string{"", "owners", `^/owners/(\d+)$`, "/owners/**", "/static/*", "/a/{", "/owners/{ownerId:[0-9]+}"} {
		assert.Nil(t, newTree(100).Declare(none), none)
	}
	tree := newTree(100)
	tree.Find("/owners/ann", false).Value = 1
	tree.Find("/owners/4711", false).Value = 1
	assert.Equal(t, 2, tree.Declare("/owners/{ownerId}").Value)
	tree.Declare("/owners/find")
	assert.Equal(t, "/owners/find", tree.Find("/owners/find", false).Template())
	assert.Equal(t, "/owners/{ownerId}", tree.Find("/owners/bob", false).Template())
}

func TestBound(t *testing.T) {
	tree := newTree(50)
	requests := 0
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		path := ""
		for range 1 + random.IntN(30) {
			path += "/" + made(random.IntN(4000))
		}
		tree.Find(path, random.IntN(4) == 0).Value++
		requests++
		require.LessOrEqual(t, tree.Len(), 50)
	}
	sum := 0
	tree.All(func(n *Node[int]) bool { sum += n.Value; return true })
	assert.Equal(t, requests, sum, "what has no template of its own is counted elsewhere")
	assert.LessOrEqual(t, tree.nodes, 3*tree.maxNodes())
	assert.Positive(t, tree.Overflowed())
}

// TestPublicAPIs has twelve APIs of the shapes that public ones have, with paths that are filled in at random.
func TestPublicAPIs(t *testing.T) {
	right, total := 0, 0
	for api := range 12 {
		random := rand.New(rand.NewPCG(uint64(api), 7))
		templates := madeAPI(random, api)
		tree := newTree(1000)
		var paths, wants []string
		for range 450 {
			template := templates[random.IntN(len(templates))]
			paths, wants = append(paths, fill(random, template)), append(wants, template)
		}
		for _, path := range paths {
			tree.Find(path, false)
		}
		for i, path := range paths {
			total++
			if tree.Find(path, false).Template() == wants[i] {
				right++
			}
		}
		assert.LessOrEqual(t, tree.Len(), len(templates)+20)
	}
	require.GreaterOrEqual(t, total, 5000)
	assert.GreaterOrEqual(t, float64(right)/float64(total), 0.98)
}

// madeAPI makes an API's templates up: resources, resources of resources, actions.
func madeAPI(random *rand.Rand, api int) (templates []string) {
	prefix := []string{"", "/v1", "/api", "/api/v1.2", "/2010-04-01", "/2.0", "/rest/api/2"}[api%7]
	suffix := []string{"", "", ".json"}[api%3]
	for i := range 10 + random.IntN(30) {
		resource := prefix + "/" + made(api*97+i) + "s"
		templates = append(templates, resource+suffix, resource+"/{id}"+suffix)
		for j := range random.IntN(5) {
			sub := resource + "/{id}/" + made(api*97+i*13+j) + "s"
			templates = append(templates, sub+suffix)
			if random.IntN(2) == 0 {
				templates = append(templates, sub+"/{id}"+suffix)
			}
		}
		if random.IntN(3) == 0 {
			templates = append(templates, resource+"/search"+suffix)
		}
	}
	return templates
}

// made makes a word up.
func made(i int) string {
	const first, second = "cat bas rol men tal sor pil ver lan dor", "alog ket ler der ing ter ow ent ion ure"
	a, b := strings.Fields(first), strings.Fields(second)
	out := a[i%10] + b[i/10%10]
	for i /= 100; i > 0; i /= 10 {
		out += a[i%10]
	}
	return out
}

func fill(random *rand.Rand, template string) string {
	for strings.Contains(template, hole) {
		value := fmt.Sprint(random.IntN(1e6))
		switch random.IntN(5) {
		case 0:
			value = fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.IntN(1<<16), random.IntN(1<<12), random.IntN(1<<12), random.Int64N(1<<48))
		case 1:
			value = fmt.Sprintf("%016x%08x", random.Uint64(), random.Uint32())
		case 2:
			value = "obj_" + token(random, 14)
		case 3:
			value = token(random, 22)
		}
		template = strings.Replace(template, hole, value, 1)
	}
	return template
}

func token(random *rand.Rand, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	out := make([]byte, n)
	for i := range out {
		out[i] = letters[random.IntN(len(letters))]
	}
	return string(out)
}

func TestWarmTreesDoNotAllocate(t *testing.T) {
	tree := newTree(100)
	paths := []string{"/products/4711", "/products/1b4e28ba-2fa1-11d2-883f-0016d3cca427/reviews", "/shop.v1.Cart/Add", "/files/77.json", "/cart"}
	for _, path := range paths {
		tree.Find(path, false)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for _, path := range paths {
			tree.Find(path, false)
		}
	}))
}

func FuzzFind(f *testing.F) {
	for _, seed := range []string{"/products/4711\n/products/9\n/products", "//a//\n/{id}\n/*", "/a.b/C\n/1.json\n/2.xml", "/%2e%2e/\xff\n/:x/<y>", "a\n*\nb\nc\n/*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tree := newTree(20)
		n := 0
		for i, path := range strings.Split(text, "\n") {
			if i%5 == 4 {
				if declared := tree.Declare(path); declared != nil {
					declared.Value++
					n++
				}
				continue
			}
			found := tree.Find(path, i%3 == 2)
			found.Value++
			n++
			require.True(t, strings.HasPrefix(found.Template(), "/"))
			require.LessOrEqual(t, tree.Len(), 20)
		}
		sum := 0
		tree.All(func(node *Node[int]) bool { sum += node.Value; return true })
		require.Equal(t, n, sum)
	})
}

func BenchmarkFind(b *testing.B) {
	tree := newTree(1000)
	random := rand.New(rand.NewPCG(1, 1))
	var paths []string
	for range 1000 {
		templates := madeAPI(random, 1)
		paths = append(paths, fill(random, templates[random.IntN(len(templates))]))
	}
	for _, path := range paths {
		tree.Find(path, false)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		tree.Find(paths[i%len(paths)], false)
	}
}

func TestTemplatesSurviveTheWire(t *testing.T) {
	tree := newTree(1000)
	for i := range 300 {
		tree.Find("/users/"+made(i)+"/orders", false)
		tree.Find(fmt.Sprintf("/files/%d.json", i), false)
		tree.Find("/"+made(i%40), false)
	}
	tree.Declare("/owners/{ownerId}/pets:all")
	tree.Find("/x", true)
	again := newTree(1000)
	var want, got []string
	tree.All(func(n *Node[int]) bool {
		want = append(want, n.Template())
		assert.Equal(t, n.Template(), again.Restore(n.Encode()).Template(), n.Encode())
		return true
	})
	again.All(func(n *Node[int]) bool { got = append(got, n.Template()); return true })
	assert.Equal(t, want, got)
	assert.Equal(t, "/users/{id}/orders", again.Find("/users/somebody/orders", false).Template())
	assert.Equal(t, "/owners/{ownerId}/pets:all", again.Find("/owners/bob/pets:all", false).Template())
	for _, none := range []string{"", "/", "/n", "/n1", "/x1:a", "/vx:}", "/v1:a"} {
		assert.Nil(t, again.Restore(none), none)
	}
}
