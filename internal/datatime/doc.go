// Package datatime is the data's own clock.
//
// A receiver ends each interval with a heartbeat: all that the node had to say of before the heartbeat's time has been sent
// (docs/data-model.md, rule 4). Beat is that heartbeat, written by Write and read by Read. Clock follows the heartbeats of all
// nodes and tells what time the mesh has reached.
//
// In live mode the wall clock bounds what is believed: a node whose clock is ahead does not move the mesh's time, one whose
// clock is behind is not waited for, and both are listed by Clock.Problems until they are right again. In a replay the data
// alone tells the time.
//
// The ztunnel receiver writes heartbeats. The service graph uses all of Clock, the outage detector and the query extension
// its nodes' times and problems; cmd/score and cmd/meshscale read and write heartbeats.
package datatime
