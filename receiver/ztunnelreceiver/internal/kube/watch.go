package kube

import (
	"context"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Report is told of every list and watch of a resource: err is nil when the API server took it, and says why it did not
// or why a watch broke off.
type Report func(resource string, err error)

// Resource says what an informer follows.
type Resource[L runtime.Object] struct {
	// Name is the resource's name in telemetry.
	Name string
	// Example is an empty object of the type.
	Example runtime.Object
	Client  interface {
		List(ctx context.Context, options metav1.ListOptions) (L, error)
		Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
	}
	// LabelSelector and FieldSelector restrict what is followed.
	LabelSelector, FieldSelector string
	// Trim reduces an object to what is needed, before it is kept.
	Trim cache.TransformFunc
}

// Informer follows one resource.
type Informer struct {
	shared cache.SharedIndexInformer
	// Synced tells whether the handler was told of everything that was there at the beginning.
	Synced cache.InformerSynced
}

// Run follows the resource until the context ends and returns when nothing is under way any more.
func (i *Informer) Run(ctx context.Context) {
	// client-go logs what is reported, and more, on its own.
	i.shared.RunWithContext(klog.NewContext(ctx, klog.Logger{}))
}

// NewInformer returns an informer of a resource. Where the connection breaks, a version is too old or the server is overloaded, it
// lists again, with back-off.
func NewInformer[L runtime.Object](api kubernetes.Interface, r Resource[L], handler cache.ResourceEventHandler, report Report) (*Informer, error) {
	restrict := func(options *metav1.ListOptions) {
		options.LabelSelector, options.FieldSelector = r.LabelSelector, r.FieldSelector
	}
	told := func(ctx context.Context, err error) {
		if ctx.Err() == nil {
			report(r.Name, err)
		}
	}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			restrict(&options)
			list, err := r.Client.List(ctx, options)
			told(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			restrict(&options)
			w, err := r.Client.Watch(ctx, options)
			if options.SendInitialEvents != nil && apierrors.IsInvalid(err) {
				// A server that cannot stream a list: the client asks for the list then.
				return nil, err
			}
			if told(ctx, err); err != nil {
				return nil, err
			}
			return observe(w, func(event watch.Event) {
				if event.Type == watch.Error {
					told(ctx, apierrors.FromObject(event.Object))
				}
			}), nil
		},
	}
	informer := cache.NewSharedIndexInformerWithOptions(
		cache.ToListWatcherWithWatchListSemantics(source, api), r.Example, cache.SharedIndexInformerOptions{ObjectDescription: r.Name})
	// They were reported.
	if err := informer.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
		return nil, err
	}
	if err := informer.SetTransform(r.Trim); err != nil {
		return nil, err
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		return nil, err
	}
	return &Informer{shared: informer, Synced: registration.HasSynced}, nil
}

// observed is a watch of which somebody else sees the events too.
type observed struct {
	watch.Interface
	events chan watch.Event
	ended  chan struct{}
	end    sync.Once
}

func observe(w watch.Interface, see func(watch.Event)) *observed {
	o := &observed{Interface: w, events: make(chan watch.Event), ended: make(chan struct{})}
	go func() {
		defer close(o.events)
		for event := range w.ResultChan() {
			see(event)
			select {
			case o.events <- event:
			case <-o.ended:
				return
			}
		}
	}()
	return o
}

// ResultChan implements watch.Interface.
func (o *observed) ResultChan() <-chan watch.Event { return o.events }

// Stop implements watch.Interface.
func (o *observed) Stop() {
	o.end.Do(func() { close(o.ended) })
	o.Interface.Stop()
}

// ReasonExpired is the reason of a watch whose version is too old, which is no fault.
const ReasonExpired = "expired"

// Reason says in a word what is wrong with a request, for telemetry.
func Reason(err error) string {
	switch {
	case apierrors.IsGone(err), apierrors.IsResourceExpired(err):
		return ReasonExpired
	case apierrors.IsForbidden(err):
		return "forbidden"
	case apierrors.IsUnauthorized(err):
		return "unauthorized"
	case apierrors.IsNotFound(err):
		return "not_found"
	case apierrors.IsBadRequest(err):
		return "not_ready"
	case apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return "overloaded"
	}
	return "connection"
}
