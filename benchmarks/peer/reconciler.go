package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

const tokenAge = time.Minute

type reconciler struct {
	client.Client
	live     client.Reader // reads Secrets from the API server: they are not cached
	http     *http.Client
	vercel   string
	token    string
	inFlight int

	written sync.Map // UID: the resourceVersion of our newest write

	mutex    sync.Mutex
	tokens   map[client.ObjectKey]readToken
	accounts map[string]*account
}

type readToken struct {
	at    time.Time
	token string
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cached := &VercelCertificate{}
	if err := r.Get(ctx, request.NamespacedName, cached); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if newest, ok := r.written.Load(cached.UID); ok && version(cached) < newest.(int64) {
		return ctrl.Result{}, nil // our own write is not in the cache yet: its event will come
	}
	if needs, after := r.needs(cached); !needs {
		return ctrl.Result{RequeueAfter: after}, nil
	}
	object := cached.DeepCopy()
	after, err := r.work(ctx, object)
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) || apierrors.IsNotFound(err) {
		return ctrl.Result{}, nil // decided from an old state: the new one has an event
	}
	return ctrl.Result{RequeueAfter: after}, err
}

// needs returns whether there is anything to do now, and when to look again.
func (r *reconciler) needs(object *VercelCertificate) (bool, time.Duration) {
	status := &object.Status
	if object.DeletionTimestamp != nil {
		return controllerutil.ContainsFinalizer(object, finalizer), 0
	}
	now := time.Now()
	if status.ID == "" || joined(status.CNs) != joined(object.Spec.CNs) || !now.Before(r.due(object)) {
		return true, 0
	}
	next := r.due(object)
	for _, old := range status.Superseded {
		gone := old.Since.Add(rest(status))
		if !now.Before(gone) {
			return true, 0
		}
		if gone.Before(next) {
			next = gone
		}
	}
	return status.ObservedGeneration != object.Generation, time.Until(next)
}

func (r *reconciler) due(object *VercelCertificate) time.Time {
	created, expires := object.Status.CreatedAt.Time, object.Status.ExpiresAt.Time
	lifetime := expires.Sub(created)
	window := lifetime / 3
	if wanted, err := time.ParseDuration(object.Spec.RenewBefore); err == nil && wanted < lifetime {
		window = wanted
	}
	due := expires.Add(-window)
	if earliest := created.Add(lifetime / 10); due.Before(earliest) {
		return earliest
	}
	return due
}

func rest(status *Status) time.Duration {
	return min(10*time.Minute, status.ExpiresAt.Sub(status.CreatedAt.Time)/10)
}

func (r *reconciler) work(ctx context.Context, object *VercelCertificate) (time.Duration, error) {
	token, err := r.tokenOf(ctx, object)
	if err != nil {
		return 0, err
	}
	account := r.account(token)
	if object.DeletionTimestamp != nil {
		return 0, r.finish(ctx, object, account)
	}
	if !controllerutil.ContainsFinalizer(object, finalizer) {
		before := object.DeepCopy()
		controllerutil.AddFinalizer(object, finalizer)
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Patch(ctx, object, patch); err != nil {
			return 0, err
		}
		r.wrote(object)
	}
	now := time.Now()
	status := &object.Status
	switch {
	case status.ID == "":
		err = r.issue(ctx, object, account, token, "FirstIssue")
	case joined(status.CNs) != joined(object.Spec.CNs):
		err = r.issue(ctx, object, account, token, "NamesChanged")
	case !now.Before(r.due(object)):
		if _, err = account.get(ctx, status.ID); err == nil {
			err = r.issue(ctx, object, account, token, "RenewalDue")
		}
	default:
		err = r.removeSuperseded(ctx, object, account)
	}
	if err != nil {
		return 0, err
	}
	_, after := r.needs(object)
	return max(after, time.Millisecond), nil
}

func (r *reconciler) issue(ctx context.Context, object *VercelCertificate, account *account, token, reason string) error {
	names := slices.Clone(object.Spec.CNs)
	slices.Sort(names)
	young, err := account.known(ctx, strings.Join(names, ","))
	if err != nil {
		return err
	}
	now := metav1.Now()
	status := object.Status.copy()
	status.Attempt = &Attempt{
		ID: random(), Start: now, Generation: object.Generation, CNs: names, Reason: reason,
		TokenHash: tokenHash(token, object),
	}
	for _, one := range young {
		if time.Since(time.UnixMilli(one.CreatedAt)) < 3*time.Hour {
			status.Attempt.Known = append(status.Attempt.Known, one.ID)
		}
	}
	message := "Requesting a certificate for " + strings.Join(names, ", ") + "."
	if status.ID == "" {
		setCondition(&status, object, "Ready", metav1.ConditionFalse, reason, message)
	}
	setCondition(&status, object, "Issuing", metav1.ConditionTrue, reason, message)
	if err := r.writeStatus(ctx, object, status, "/metadata/resourceVersion", object.ResourceVersion); err != nil {
		return err
	}

	issued, err := account.issue(ctx, names)
	if err != nil {
		return err
	}

	status = object.Status.copy()
	attempt := status.Attempt
	if status.ID != "" && status.ID != issued.ID {
		status.Superseded = append(status.Superseded, Superseded{ID: status.ID, Origin: "Issued", Since: metav1.Now()})
	}
	created, expires := metav1.NewTime(time.UnixMilli(issued.CreatedAt)), metav1.NewTime(time.UnixMilli(issued.ExpiresAt))
	status.ID, status.Origin, status.CNs = issued.ID, "Issued", slices.Clone(issued.CNs)
	slices.Sort(status.CNs)
	status.CreatedAt, status.ExpiresAt, status.AutoRenew = &created, &expires, &issued.AutoRenew
	status.ObservedGeneration, status.TokenHash = object.Generation, attempt.TokenHash
	digest := sha256.Sum256([]byte(strings.Join(names, "\n")))
	status.Issuances = append(status.Issuances, Issuance{Time: metav1.Now(), NamesHash: hex.EncodeToString(digest[:8])})
	attempt.Outcome = "Issued"
	ready := fmt.Sprintf("Certificate %s covers %s.", issued.ID, strings.Join(names, ", "))
	setCondition(&status, object, "Ready", metav1.ConditionTrue, "Issued", ready)
	setCondition(&status, object, "Issuing", metav1.ConditionFalse, "UpToDate", "Nothing needs to be issued.")
	probe := VercelCertificate{Spec: object.Spec, Status: status}
	renewal := metav1.NewTime(r.due(&probe))
	status.RenewalTime = &renewal
	if err := r.writeStatus(ctx, object, status, "/status/attempt/id", attempt.ID); err != nil {
		return err
	}
	r.event(object, "Issued", "Issue", fmt.Sprintf("Issued certificate %s for %s; expires %s.",
		issued.ID, strings.Join(names, ", "), expires.UTC().Format(time.RFC3339)))
	return nil
}

func (r *reconciler) removeSuperseded(ctx context.Context, object *VercelCertificate, account *account) error {
	status := object.Status.copy()
	now := time.Now()
	for _, old := range object.Status.Superseded {
		if now.Before(old.Since.Add(rest(&object.Status))) {
			continue
		}
		if err := account.remove(ctx, old.ID); err != nil {
			return err
		}
		status.Superseded = slices.DeleteFunc(status.Superseded, func(one Superseded) bool { return one.ID == old.ID })
	}
	// The renewal time and the generation that this status is about are kept current too.
	status.ObservedGeneration = object.Generation
	renewal := metav1.NewTime(r.due(object))
	status.RenewalTime = &renewal
	for i := range status.Conditions {
		status.Conditions[i].ObservedGeneration = object.Generation
	}
	return r.writeStatus(ctx, object, status, "/metadata/resourceVersion", object.ResourceVersion)
}

func (r *reconciler) finish(ctx context.Context, object *VercelCertificate, account *account) error {
	ids := []string{}
	if object.Status.ID != "" {
		ids = append(ids, object.Status.ID)
	}
	for _, old := range object.Status.Superseded {
		ids = append(ids, old.ID)
	}
	for _, id := range ids {
		if err := account.remove(ctx, id); err != nil {
			return err
		}
	}
	before := object.DeepCopy()
	controllerutil.RemoveFinalizer(object, finalizer)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, object, patch); err != nil {
		return err
	}
	r.written.Delete(object.UID)
	r.event(object, "Removed", "Remove", "Removed "+strings.Join(ids, ", ")+" at Vercel.")
	return nil
}

// writeStatus writes all of status by a JSON Patch that tests the uid and one more value, as the operator does.
func (r *reconciler) writeStatus(ctx context.Context, object *VercelCertificate, status Status, path, value string) error {
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": object.UID},
		{"op": "test", "path": path, "value": value},
		{"op": "add", "path": "/status", "value": status},
	})
	if err != nil {
		return err
	}
	if err := r.Status().Patch(ctx, object, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		return err
	}
	r.wrote(object)
	return nil
}

func (r *reconciler) wrote(object *VercelCertificate) { r.written.Store(object.UID, version(object)) }

func version(object *VercelCertificate) int64 {
	number, _ := strconv.ParseInt(object.ResourceVersion, 10, 64)
	return number
}

func (r *reconciler) event(object *VercelCertificate, reason, action, note string) {
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: object.Namespace, Name: object.Name + "." + random()},
		EventTime:           metav1.NowMicro(),
		ReportingController: "vercel-operator.io/peer",
		ReportingInstance:   "peer",
		Type:                corev1.EventTypeNormal,
		Reason:              reason,
		Action:              action,
		Note:                note,
		Regarding: corev1.ObjectReference{
			APIVersion: groupVersion.String(), Kind: "VercelCertificate",
			Namespace: object.Namespace, Name: object.Name, UID: object.UID,
		},
	}
	go func() {
		if err := r.Create(context.Background(), event); err != nil {
			log.Log.Error(err, "an Event was not written")
		}
	}()
}

func (r *reconciler) tokenOf(ctx context.Context, object *VercelCertificate) (string, error) {
	ref := object.Spec.TokenSecretRef
	if ref == nil {
		return r.token, nil
	}
	place := client.ObjectKey{Namespace: object.Namespace, Name: ref.Name}
	r.mutex.Lock()
	known, ok := r.tokens[place]
	r.mutex.Unlock()
	if ok && time.Since(known.at) < tokenAge {
		return known.token, nil
	}
	secret := &corev1.Secret{}
	if err := r.live.Get(ctx, place, secret); err != nil {
		return "", err
	}
	key := ref.Key
	if key == "" {
		key = "token"
	}
	token := strings.TrimSpace(string(secret.Data[key]))
	r.mutex.Lock()
	r.tokens[place] = readToken{time.Now(), token}
	r.mutex.Unlock()
	return token, nil
}

func (r *reconciler) account(token string) *account {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	found := r.accounts[token]
	if found == nil {
		found = &account{http: r.http, url: r.vercel, token: token, slots: make(chan struct{}, r.inFlight)}
		r.accounts[token] = found
	}
	return found
}

func setCondition(status *Status, object *VercelCertificate, kind string, value metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: object.Generation,
	})
}

func joined(names []string) string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return strings.Join(sorted, ",")
}

func tokenHash(token string, object *VercelCertificate) string {
	hash := hmac.New(sha256.New, []byte(object.UID))
	hash.Write([]byte(token))
	return hex.EncodeToString(hash.Sum(nil))[:32]
}

func random() string {
	bytes := make([]byte, 8)
	_, _ = rand.Read(bytes)
	return hex.EncodeToString(bytes)
}
