#include "scheduler/scheduler_impl.h"
